"""Maps chosen parameters to the layers that own them.

A parameter belongs to the module that holds it. If that module is never called by itself (a parametrization, a list or
dict of parameters, the output layer inside PyTorch's attention), it belongs to the enclosing module, under its dotted
name there.

A model and full names of parameters go in; layers by name, with their parameters by their name in the layer,
come out. Cost: one pass over the modules.

Known limits: modules of other kinds that are used without being called are not known here; a proof must find
them.
"""

from __future__ import annotations

from collections.abc import Collection

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

ParameterOwners = dict[str, tuple[nn.Module, dict[str, str]]]
NEVER_CALLED = (ParametrizationList, nn.ParameterList, nn.ParameterDict)


def parameter_owners(model: nn.Module, names: Collection[str]) -> ParameterOwners:
    """Returns the layers that own chosen parameters: name → (layer, name in the layer → full name).

    >>> {name: own for name, (_, own) in parameter_owners(nn.Sequential(nn.Linear(2, 2)), ["0.weight"]).items()}
    {'0': {'weight': '0.weight'}}
    """
    full = {id(parameter): name for name, parameter in model.named_parameters() if name in names}
    modules = dict(model.named_modules())
    found: dict[str, tuple[nn.Module, dict[str, str]]] = {}
    for name, module in modules.items():
        own = {key: full[id(p)] for key, p in module.named_parameters(recurse=False) if id(p) in full}
        if own:
            holder = _called(name, modules)
            prefix = name[len(holder) :].lstrip(".")
            found.setdefault(holder, (modules[holder], {}))[1].update(
                {f"{prefix}.{key}" if prefix else key: whole for key, whole in own.items()}
            )
    return found


def _called(name: str, modules: dict[str, nn.Module]) -> str:
    """The name of the module itself, or of the nearest one around it that is called."""
    around = name.rpartition(".")[0]
    while name and around in modules and _inside(modules[name], modules[around], name.rpartition(".")[2]):
        name, around = around, around.rpartition(".")[0]
    return name


def _inside(module: nn.Module, around: nn.Module, key: str) -> bool:
    if isinstance(module, nn.ModuleDict):
        return all(isinstance(value, ParametrizationList) for value in module.values())
    return isinstance(module, NEVER_CALLED) or (isinstance(around, nn.MultiheadAttention) and key == "out_proj")
