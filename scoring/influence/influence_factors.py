"""Influence factors: fitted to the Hessian, they embed examples so that inner products are influences.

    μ(z) = Λ^(-1/2) Mᵀ ∇ℓ(z)              influence embedding   (Wang et al. 2023, eq. 3)
    influence of z' on z = μ(z')·μ(z) = ∇ℓ(z)ᵀ Ĥ⁻¹ ∇ℓ(z')      (Koh and Liang 2017, eq. 2, sign turned)

Models and batches go in, embeddings (n, r) come out. Cost: P Hessian products to fit (``scoring.curvature``);
to embed, one forward and one backward pass.

Known limits: directions of negative and of tiny curvature are left out of Ĥ⁻¹, so influence is that on the
rest. Removing an example moves the loss by its influence over n only as far as the loss is quadratic.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from scoring.audit.errors import HardlookError
from scoring.audit.sealed_tensors import PLACE, seal_tensors, verify_tensors
from scoring.audit.storage import atomic_path, readable
from scoring.curvature import (
    FLOOR,
    MEMORY_BUDGET,
    CurvatureReport,
    Size,
    factorise,
    size_of,
)
from scoring.curvature.chosen_parameters import batches, check_reiterable, choose, few
from scoring.curvature.forward import check_forward
from scoring.curvature.gradient_coverage import parameters_with_gradient
from scoring.curvature.hessian import hessian_products, products_on_few
from scoring.curvature.low_rank import held_memory
from scoring.curvature.second_derivative_check import twice_differentiable_parameters
from scoring.gradients import device_of
from scoring.gradients.plain_autograd import differentiable
from scoring.influence.projector import Projector
from scoring.models.given_tensors import need_module
from scoring.models.losses import Loss

FORMAT = "1"


@dataclass(frozen=True)
class InfluenceFactors:
    """A low-rank inverse Hessian of some layers, and what it takes to embed examples with it.

    ``eigenvalues``: (r,) descending; ``blocks``: eigenvectors by parameter name, (r, *shape); ``report``:
    what was found while fitting; ``lengths``: the norm of each parameter, by which other weights are
    recognised; ``loss``; ``methods``: in which way each layer was last embedded, where the next batch begins.
    """

    eigenvalues: np.ndarray
    blocks: Mapping[str, Tensor]
    report: CurvatureReport
    lengths: Mapping[str, float]
    loss: Loss = F.cross_entropy
    methods: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def rank(self) -> int:
        """r, the length of an embedding."""
        return len(self.eigenvalues)

    @classmethod
    def fit(
        cls,
        model: nn.Module,
        data: Iterable[Any],
        *,
        layers: str | Sequence[str] | None,
        loss: Loss = F.cross_entropy,
        arnoldi_dim: int = 500,
        rank: int = 100,
        seed: int = 0,
        l2: float = 0.0,
        floor: float = FLOOR,
        memory_budget: int = MEMORY_BUDGET,
        announce: Callable[[Size], None] = lambda _: None,
        advance: Callable[[], object] = lambda: None,
    ) -> InfluenceFactors:
        """Factor the mean Hessian of the loss over ``data``, restricted to ``layers``.

        ``data``: re-iterable of (inputs, labels) batches in a fixed order. ``layers``: names or patterns,
        ``None`` for the last block and the head. ``loss(outputs, labels)``: one value per example, or a
        PyTorch loss with a ``reduction``. ``arnoldi_dim``: P products; ``rank``: r; both lowered, with a note
        in the report, where the problem is smaller. ``l2``: the factor of ½‖W‖² the model was trained with.
        ``floor``: share of the largest eigenvalue below which eigenvalues are noise. ``memory_budget``: bytes
        for basis, caches and graphs. ``announce`` hears the planned size, whose text says it, before the products;
        ``advance`` is called after each product.

        The model runs in eval mode and is given back as it was. Deterministic for a seed on one machine.
        Raises ``HardlookError`` for unknown layers, empty data, non-finite losses or gradients, a model that
        is not deterministic, or no positive curvature (Wang et al. 2023; defaults of the paper).
        """
        need_module(model)
        check_reiterable(data)
        chosen = choose(model, layers, few(data, device_of(model))[0])
        size_of(chosen, arnoldi_dim=arnoldi_dim, rank=rank, memory_budget=memory_budget)  # refuses what is too large
        with differentiable(model, chosen.tensors):
            chosen, left_out = parameters_with_gradient(model, data, chosen)
            check_forward(model, few(data, device_of(model))[0])
            chosen, wrong = twice_differentiable_parameters(
                model, few(data, device_of(model)), chosen, loss, products_on_few
            )
        size = size_of(chosen, arnoldi_dim=arnoldi_dim, rank=rank, memory_budget=memory_budget)
        with differentiable(model, chosen.tensors):
            products = hessian_products(
                model,
                data,
                chosen,
                loss=loss,
                l2=l2,
                memory_budget=max(0, memory_budget - size.bytes),
                checked_before=True,
            )
            held = held_memory(device_of(model))
            announce(replace(size, cached_bytes=products.bytes, held_bytes=held))
            found = factorise(products, size, rank=rank, floor=floor, seed=seed, advance=advance)
        blocks = dict(zip(chosen.parameters, found.blocks, strict=True))
        report = replace(found.report, notes=(*left_out, *wrong, *found.report.notes, *products.notes))
        factors = cls(found.values, blocks, report, _lengths(model, blocks), loss)
        return replace(factors, report=factors._with_slow_layers(model, data))

    def _with_slow_layers(self, model: nn.Module, data: Iterable[Any]) -> CurvatureReport:
        """The report with a note on the layers that have no rule, and how they will be embedded."""
        projector = Projector(model, self.blocks, self.loss, self.methods)
        projector(*few(data, device_of(model)))
        return replace(self.report, notes=(*self.report.notes, *projector.notes()))

    def embed(
        self,
        model: nn.Module,
        data: Iterable[Any],
        *,
        advance: Callable[[int], None] = lambda _: None,
        note: Callable[[str], None] = lambda _: None,
    ) -> np.ndarray:
        """Influence embeddings μ of every example in the data, in its order → (n, r) float32.

        ``model``: the one that was fitted; its weights are checked. ``data``: (inputs, labels) batches;
        examples are independent of each other, so shards can be embedded apart. ``advance`` is called with
        each batch's size; ``note`` hears of layers that lost their rule since the fit. Raises
        ``HardlookError`` for other weights and for gradients that are not finite.
        """
        need_module(model)
        self._check_model(model)
        device = device_of(model)
        scale = torch.as_tensor(self.eigenvalues**-0.5)
        projector = Projector(
            model, {name: block.to(device) for name, block in self.blocks.items()}, self.loss, self.methods
        )
        rows = [np.empty((0, self.rank), np.float32)]
        for inputs, labels in batches(data, device):
            rows.append((projector(inputs, labels).cpu().double() * scale).float().numpy())
            advance(len(labels))
        for text in projector.notes():
            if text not in self.report.notes:
                note(text)
        return np.concatenate(rows)

    def _check_model(self, model: nn.Module) -> None:
        known = dict(model.named_parameters())
        missing = [name for name in self.blocks if name not in known]
        if missing:
            raise HardlookError(f"the model has no {missing[0]!r}, which these factors were fitted on")
        for name, length in _lengths(model, self.blocks).items():
            if known[name].shape != self.blocks[name].shape[1:] or not np.isclose(
                length, self.lengths[name], rtol=1e-6
            ):
                raise HardlookError(
                    f"{name} differs from the weights that these factors were fitted on (shape "
                    f"{tuple(known[name].shape)}, norm {length:.6g}; expected {tuple(self.blocks[name].shape[1:])}, "
                    f"{self.lengths[name]:.6g}); load that checkpoint, or fit the factors again"
                )

    def save(self, path: str | Path) -> None:
        """Write everything but the loss's code to a safetensors file, atomically."""
        tensors = {f"factor/{name}": block.cpu().contiguous() for name, block in self.blocks.items()}
        tensors["eigenvalues"] = torch.as_tensor(self.eigenvalues.copy())
        about = {
            "format": FORMAT,
            "report": json.dumps(asdict(self.report)),
            "loss": _name(self.loss),
            "lengths": json.dumps(dict(self.lengths)),
            "checksum": PLACE,
        }
        with atomic_path(Path(path)) as temporary:
            save_file(tensors, str(temporary), metadata=about)
            seal_tensors(temporary)

    @classmethod
    def load(cls, path: str | Path, *, loss: Loss = F.cross_entropy) -> InfluenceFactors:
        """Read factors that ``save`` wrote. ``loss`` must be the one they were fitted with, by its name."""
        with readable(path), _opened(path) as file:
            about = file.metadata() or {}
            if about.get("format") != FORMAT:
                raise HardlookError(
                    f"{path} holds factors of format {about.get('format')}, but this version reads format {FORMAT}; "
                    "run `hardlook score --only influence` again"
                )
            if about["loss"] != _name(loss):
                raise HardlookError(
                    f"{path} was fitted with loss {about['loss']}, not {_name(loss)}; pass that loss as loss="
                )
            names = json.loads(about["lengths"])
            # Copied: a tensor inside the file is not aligned as one of its own is, and sums round differently.
            blocks = {name: file.get_tensor(f"factor/{name}").clone() for name in names}
            values = file.get_tensor("eigenvalues").numpy()
        report: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in json.loads(about["report"]).items()
        }
        return cls(values, blocks, CurvatureReport(**report), names, loss)


def _opened(path: str | Path) -> safe_open:
    """A safetensors file that is open; a damaged one is one clear error."""
    verify_tensors(path)
    try:
        return safe_open(str(path), framework="pt")
    except SafetensorError as error:
        raise HardlookError(
            f"{path} is damaged ({error}); delete it and run the command that writes it again, `hardlook score --only "
            "influence`"
        ) from error


def _lengths(model: nn.Module, names: Iterable[str]) -> dict[str, float]:
    known = dict(model.named_parameters())
    return {name: float(known[name].detach().double().norm()) for name in names}


def _name(loss: Loss) -> str:
    return getattr(loss, "__qualname__", type(loss).__qualname__)


def embedding_self_influence(embeddings: np.ndarray) -> np.ndarray:
    """‖μ‖², the influence of each example on itself over any layers: (n, r) → (n,) float64. High is
    suspicious.

    >>> embedding_self_influence(np.array([[3.0, 4.0]]))
    array([25.])
    """
    return np.square(np.asarray(embeddings, dtype=np.float64)).sum(axis=1)
