"""The ``audit.toml`` that ``hardlook new DIR`` writes where nothing is named: for data of one's own, to be filled in.

It is complete in itself: each line says what stands there, and what may stand there instead. Inputs → outputs: none →
text. Cost: none.
"""

from __future__ import annotations

TEMPLATE = """# An audit of your own data: fill in the lines, or let hardlook find them:
#   hardlook new DIR --train PATH --test PATH --model MODEL --checkpoints GLOB
# Paths start at this file's folder.
format = 1
media = "image"                      # image, vector (rows of numbers) or text
classes = ["cat", "dog"]             # the class names, in the order of the model's outputs

# One [[data]] table per source: a folder with one folder per class, a CSV or Parquet table, an .npz, a saved dataset.
[[data]]
split = "train"
path = "../images/train"

[[data]]
split = "test"
path = "../images/test"

# A table names its columns; a relative path in it starts at the table's folder.
# [[data]]
# split = "train"
# path = "../train.csv"
# id_column = "id"
# image_column = "file"              # text_column for texts; vectors take all columns of numbers
# label_column = "label"

# The pool holds unlabelled examples, which are ranked too.
# [[data]]
# split = "pool"
# path = "../images/new"

# One [run.<name>] table per model. Without a PyTorch model, remove it and import predictions instead:
#   hardlook import-predictions DIR predictions.csv
[run.main]
model = "resnet18"                   # of torchvision; or "timm:resnet18", "huggingface:FOLDER", "model.py:net"
arguments = { num_classes = 2 }      # what the model is called with
checkpoints = "../checkpoints/*.pt"  # a pattern, or a list; one file is enough, several epochs tell more
# averaged = true                    # audit the moving average (EMA) of the weights
# expected_accuracy = 0.93           # the test accuracy that you measured; `hardlook check` compares it

# The evaluation transform, as this table or as transform = "model.py:transform".
[run.main.transform]
mode = "RGB"
resize = 256
crop = 224
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]

# Settings of a score; `hardlook score --help` lists them with their defaults.
# [run.main.scores.influence]
# arnoldi_dim = 120

# Verified labels by id: only for evaluation, never shown to reviewers.
# [truth]
# path = "truth.csv"
"""
