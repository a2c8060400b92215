#!/usr/bin/env bash
# mmengine's EMAHook writes the moving average as `state_dict` and the trained weights as `ema_state_dict`.
#
# The keys say the opposite. It is meant (a checkpoint's `state_dict` can then be deployed as it is), but who reads
# `ema_state_dict` for the average gets the raw weights, and who compares epochs by `state_dict` compares averages.
# Exits with 1 if the library no longer behaves so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q mmengine==0.10.7 torch==2.14.1 numpy setuptools
cd "$folder"
CUDA_VISIBLE_DEVICES= "$folder/venv/bin/python" -W ignore - <<'PY'
import mmengine
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner


class Net(BaseModel):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(4, 3)

    def train_step(self, data, optim_wrapper):
        loss = torch.nn.functional.cross_entropy(self.fc(data[0]), data[1])
        optim_wrapper.update_params(loss)
        return {"loss": loss}

    def forward(self, inputs, **_):
        return self.fc(inputs)


data = torch.utils.data.TensorDataset(torch.randn(32, 4), torch.arange(32) % 3)
model = Net()
runner = Runner(
    model, work_dir="work", experiment_name="e", log_level="ERROR",
    train_dataloader=torch.utils.data.DataLoader(data, batch_size=8),
    optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.5}},
    train_cfg={"by_epoch": True, "max_epochs": 2},
    custom_hooks=[{"type": "EMAHook", "momentum": 0.1}])
runner.train()
saved = torch.load("work/epoch_2.pth", weights_only=False)  # our own file
trained = model.fc.weight.detach()
as_plain = torch.equal(saved["state_dict"]["fc.weight"], trained)
as_ema = torch.equal(saved["ema_state_dict"]["module.fc.weight"], trained)
print(f"mmengine {mmengine.__version__}, torch {torch.__version__}")
print("the trained weights (what the model in memory holds after training) are under:")
print(f"  state_dict:     {as_plain}")
print(f"  ema_state_dict: {as_ema}")
raise SystemExit(0 if as_ema and not as_plain else 1)
PY
