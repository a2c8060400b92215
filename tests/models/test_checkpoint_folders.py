"""Folders and files that hold no plain weights of a whole model: each is named, with the line that makes
weights of it."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from scoring.audit.errors import HardlookError
from scoring.models.checkpoint_reader import read_state_dict
from scoring.models.checkpoints import find_checkpoints
from scoring.models.conversion import convert_checkpoint
from scoring.models.state_dict_matching import load_into

from ..nets import Net, Settings, loads, state


def refuses(path, said):
    """Reading, finding and converting give the same sentence."""
    for use in (
        read_state_dict,
        lambda path: find_checkpoints(path.name, path.parent),
        lambda path: convert_checkpoint(path, path.parent / "out.safetensors", trust=True),
    ):
        with pytest.raises(HardlookError, match=said) as error:
            use(path)
        assert "damaged" not in str(error.value) and "\n" not in str(error.value)


def test_a_folder_of_torch_distributed_names_the_command_that_makes_one_file_and_it_does(tmp_path, recwarn):
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    folder = tmp_path / "step-3"
    checkpoint.save({"model": state(1), "epoch": 3}, checkpoint_id=folder)
    refuses(folder, rf"torch.distributed.checkpoint.*format_utils dcp_to_torch {folder} weights.pt")
    dcp_to_torch_save(folder, tmp_path / "weights.pt")
    loads(tmp_path / "weights.pt", Net(seed=1))
    assert read_state_dict(tmp_path / "weights.pt").epoch == 3
    outer = tmp_path / "checkpoint-9"  # as Accelerate and the Trainer write with FSDP
    folder.rename((outer.mkdir(), outer / "pytorch_model_fsdp_0")[1])
    refuses(outer, rf"dcp_to_torch {outer / 'pytorch_model_fsdp_0'} weights.pt")


@pytest.mark.parametrize(
    "names, said",
    [
        (
            ["adapter_config.json", "adapter_model.safetensors"],
            r"adapter of PEFT .*merge_and_unload\(\).save_pretrained",
        ),
        (
            [".metadata", "__0_0.distcp", "meta.pt"],
            "Lightning.*python -m lightning.pytorch.utilities.consolidate_checkpoint",
        ),
        (["latest", "zero_to_fp32.py"], "DeepSpeed ZeRO.*zero_to_fp32.py"),
        (["saved_model.pb", "fingerprint.pb"], "TensorFlow's SavedModel.*import-predictions"),
        (
            ["model.safetensors", "model_1.safetensors"],
            r"several models .*checkpoints = \"\*/model.safetensors\"",
        ),
    ],
)
def test_folders_of_other_tools_are_named(tmp_path, names, said):
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"x")
    refuses(folder, said)


def test_a_quantised_model_of_transformers_says_so_in_its_config(tmp_path):
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    save_file(state(1), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "gptq", "bits": 4}}))
    refuses(folder, "holds a quantised model .gptq.; needed plain weights")
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
    loads(folder, Net(seed=1))
    with pytest.raises(HardlookError, match="name the folder in audit.toml, or convert the file in it"):
        convert_checkpoint(folder, trust=True)


def test_accelerates_own_folders_are_read_and_two_models_in_one_are_not_guessed_at(tmp_path):
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = accelerator.prepare(Net(seed=1))
    accelerator.save_state(tmp_path / "one")
    accelerator.save_state(tmp_path / "pickled", safe_serialization=False)
    accelerator.save_model(model, tmp_path / "model")
    for name in ("one", "pickled", "model"):
        loads(tmp_path / name, Net(seed=1))
    accelerator.prepare(Net(seed=2))
    accelerator.save_state(tmp_path / "two")
    refuses(tmp_path / "two", "holds several models .model.safetensors, model_1.safetensors.")
    loads(tmp_path / "two" / "model_1.safetensors", Net(seed=2))


ADAPTERS = {
    "LoraConfig": {},
    "IA3Config": {"feedforward_modules": []},
    "LoHaConfig": {},
    "LoKrConfig": {},
    "VeraConfig": {},
    "OFTConfig": {"oft_block_size": 4},
}


@pytest.mark.parametrize("kind", ADAPTERS)
def test_adapters_are_refused_and_merged_models_load(tmp_path, kind):
    peft = pytest.importorskip("peft")
    config = getattr(peft, kind)(target_modules=["body"], **ADAPTERS[kind])
    model = peft.get_peft_model(nn.Sequential(nn.ModuleDict({"body": nn.Linear(4, 4)})), config)
    model.save_pretrained(tmp_path / "adapter")
    said = r"adapter of PEFT .*without the base model's weights; merge first: model.merge_and_unload"
    refuses(tmp_path / "adapter", said)
    with pytest.raises(HardlookError, match=said):
        read_state_dict(tmp_path / "adapter" / "adapter_model.safetensors")
    torch.save(model.state_dict(), tmp_path / "whole.pt")  # base and adapter: a factory may build the same
    load_into(model, read_state_dict(tmp_path / "whole.pt"))


def lora():
    """As PEFT 0.21.2 writes a LoRA of a classifier whose head was trained too."""
    first = "base_model.model.vit.layers.0.attention.q_proj"
    return {
        "base_model.model.classifier.weight": torch.ones(3, 8),
        f"{first}.lora_A.weight": torch.ones(2, 8),
        f"{first}.lora_B.weight": torch.ones(8, 2),
    }


QUANTISED = {
    "GPTQ or AWQ": {
        "fc.qweight": torch.ones(2, 4, dtype=torch.int32),
        "fc.qzeros": torch.ones(1, 1, dtype=torch.int32),
        "fc.scales": torch.ones(1, 4),
    },
    "bitsandbytes, 8 bits": {"fc.weight": torch.ones(4, 4, dtype=torch.int8), "fc.SCB": torch.ones(4)},
    "int8 values": {"fc.weight": torch.ones(4, 4, dtype=torch.int8)},
    "bitsandbytes, 4 bits": {
        "fc.weight": torch.ones(8, 1, dtype=torch.uint8),
        "fc.weight.absmax": torch.ones(1),
    },  # 4 bits
    "compressed-tensors": {
        "fc.weight_packed": torch.ones(4, 1, dtype=torch.int32),
        "fc.weight_scale": torch.ones(4),
    },
    "float8_e4m3fn values": {
        "fc.weight": torch.ones(4, 4).to(torch.float8_e4m3fn),
        "fc.weight_scale_inv": torch.ones(1, 1),
    },
    "torchao": {
        "fc._weight_qdata": torch.ones(4, 4, dtype=torch.int8),
        "fc._weight_scale": torch.ones(4),
    },  # its safetensors
}


@pytest.mark.parametrize("told", QUANTISED)
def test_packed_weights_are_refused_with_one_sentence(tmp_path, told):
    save_file({"fc.bias": torch.ones(4), **QUANTISED[told]}, tmp_path / "a.safetensors")
    with pytest.raises(HardlookError, match=rf"is quantised \({told}.*needed plain weights"):
        read_state_dict(tmp_path / "a.safetensors")
    torch.save({"state_dict": QUANTISED[told], "settings": Settings()}, tmp_path / "a.pt")
    with pytest.raises(HardlookError, match=rf"a.pt could not be converted: .*is quantised \({told}"):
        convert_checkpoint(tmp_path / "a.pt", tmp_path / "out.safetensors", trust=True)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_float8_model_without_scales_is_only_of_low_precision(tmp_path):
    save_file(
        {"weight": torch.full((3, 2), 0.5).to(torch.float8_e4m3fn), "bias": torch.ones(3)},
        tmp_path / "a.safetensors",
    )
    notes = load_into(model := nn.Linear(2, 3), read_state_dict(tmp_path / "a.safetensors"))
    assert (model.weight == 0.5).all() and notes == ("float8_e4m3fn weights became float32",)


@pytest.mark.filterwarnings("ignore")
def test_quantised_tensors_of_torch_are_refused_however_they_are_kept(tmp_path):
    quantised = torch.ao.quantization.quantize_dynamic(Net(seed=1).eval(), {nn.Linear})
    tensor = torch.quantize_per_tensor(torch.ones(4, 4), 0.1, 0, torch.qint8)
    for name, content in {
        "dynamic": quantised.state_dict(),
        "held": {"model": quantised.state_dict()},
        "tensor": {"fc.weight": tensor, "fc.bias": torch.ones(4)},
    }.items():
        torch.save(content, tmp_path / f"{name}.pt")
        with pytest.raises(HardlookError, match=r"is quantised \(torch.ao\)"):
            read_state_dict(tmp_path / f"{name}.pt")
    torch.save(
        {"model": {"fc.weight": tensor, "fc.bias": torch.ones(4)}, "settings": Settings()},
        tmp_path / "objects.pt",
    )
    with pytest.raises(
        HardlookError, match="'fc.weight' is a tensor of torch made by _rebuild_qtensor.*needed plain weights"
    ):
        convert_checkpoint(tmp_path / "objects.pt", trust=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("config", ["Int8WeightOnlyConfig", "Float8WeightOnlyConfig"])
def test_weights_that_torchao_quantised_are_never_dropped(tmp_path, config):
    quantization = pytest.importorskip("torchao.quantization")
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 3))
    quantization.quantize_(model, getattr(quantization, config)())
    torch.save(model.state_dict(), tmp_path / "state.pt")
    torch.save({"model": model.state_dict(), "epoch": 3, "settings": Settings()}, tmp_path / "held.pt")
    for name in ("state", "held"):
        with pytest.raises(
            HardlookError, match=r"'0.weight' is a torchao\S+Tensor, whose values only its library can decode"
        ):
            convert_checkpoint(tmp_path / f"{name}.pt", trust=True)
        assert not (tmp_path / f"{name}.safetensors").exists()


def test_an_adapter_without_its_config_is_told_by_its_names(tmp_path):
    save_file(lora(), tmp_path / "a.safetensors")
    with pytest.raises(HardlookError, match="adapter of PEFT"):
        read_state_dict(tmp_path / "a.safetensors")


def test_an_optimizer_and_an_empty_state_dict_are_no_weights(tmp_path):
    optimizer = torch.optim.Adam((model := Net()).parameters())
    model(torch.ones(3, 4)).sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "flat.pt")
    torch.save({"optimizer": optimizer.state_dict(), "epoch": 2}, tmp_path / "held.pt")
    for name in ("flat", "held"):
        refuses(tmp_path / f"{name}.pt", "holds the state of an optimizer and no weights; needed the model's")
    save_file({}, tmp_path / "empty.safetensors")
    with pytest.raises(HardlookError, match="empty.safetensors holds no weights; found an empty dict"):
        read_state_dict(tmp_path / "empty.safetensors")
