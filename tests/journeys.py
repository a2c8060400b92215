"""What users of each library have after their training: the same digits, and the files that the library's own trainer
left.

Each function writes into a folder, by the library itself, what its journey begins with; nothing of hardlook is in it.
``ERRORS`` training labels are wrong. Used by the test of the page "first-suspects", and by the benchmark of that name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDE = 32
TRAIN, TEST, ERRORS = 600, 200, 30
EPOCHS = 5
WORDS = {
    "sports": "goal match team player coach season league win ball score",
    "science": "cell planet energy theory light atom gene data star wave",
    "business": "market share profit bank price trade firm growth sales stock",
}


def wrong_rows() -> dict[int, int]:
    """Training row → its wrong label."""
    random = np.random.default_rng(0)
    rows = random.permutation(TRAIN)[:ERRORS]
    true = load_digits().target
    return {int(row): int((true[row] + random.integers(1, 10)) % 10) for row in rows}


def digits() -> Iterator[tuple[str, int, np.ndarray, int]]:
    """(split, row, picture (8, 8) of 0…16, label) of every example."""
    images, true = load_digits().images, load_digits().target
    wrong = wrong_rows()
    for row in range(TRAIN + TEST):
        split = "train" if row < TRAIN else "test"
        yield split, row, images[row], wrong.get(row, int(true[row]))


def write_images(folder: Path) -> None:
    """``images/train`` and ``images/test``, one folder per class."""
    for split, row, picture, label in digits():
        path = folder / "images" / split / CLASSES[label] / f"{row:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = Image.fromarray((picture * 15.9).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        grey.convert("RGB").save(path)


TO_TENSOR = v2.Compose([v2.Resize(SIDE), v2.CenterCrop(SIDE), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


def batches(folder: Path, split: str = "train", shuffle: bool = True) -> DataLoader[Any]:
    """Batches of a split, as every image journey trains on them."""
    data = ImageFolder(folder / "images" / split, TO_TENSOR)
    return DataLoader(data, 60, shuffle=shuffle, generator=torch.Generator().manual_seed(0))


def trained(model: nn.Module, folder: Path, after: Callable[[int], object] = lambda epoch: None) -> nn.Module:
    """A plain loop."""
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for epoch in range(EPOCHS):
        model.train()
        for inputs, labels in batches(folder):
            optimizer.zero_grad()
            cross_entropy(model(inputs), labels).backward()
            optimizer.step()
        after(epoch)
    return model


def one_checkpoint(folder: Path) -> None:
    """``images`` and ``final.pth``, the state dict of a ResNet-18 of torchvision."""
    from torchvision.models import resnet18

    write_images(folder)
    torch.manual_seed(0)
    torch.save(trained(resnet18(num_classes=10), folder).state_dict(), folder / "final.pth")


LIT = '''"""The user's training script."""
import lightning.pytorch as lightning
import torch
from torch import nn


class LitDigits(lightning.LightningModule):
    def __init__(self, width=8, classes=10):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 64, classes),
        )

    def forward(self, inputs):
        return self.net(inputs)

    def training_step(self, batch, number):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 2e-3)
'''


def lightning(folder: Path) -> None:
    """``images``, ``train.py`` with a LightningModule, and the checkpoints of its Trainer, ``last.ckpt`` among them."""
    import lightning.pytorch as library
    from lightning.pytorch.callbacks import ModelCheckpoint

    write_images(folder)
    (folder / "train.py").write_text(LIT, encoding="utf8")
    names: dict[str, Any] = {"__name__": "train"}
    exec(compile(LIT, "train.py", "exec"), names)
    torch.manual_seed(0)
    library.Trainer(
        max_epochs=EPOCHS,
        callbacks=[ModelCheckpoint(dirpath=folder / "ckpts", save_top_k=-1, save_last=True)],
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(names["LitDigits"](width=12), batches(folder))


def hugging_face_images(folder: Path) -> None:
    """``images`` and ``out``: the folders that the Trainer saved of a small ViT, with its image processor."""
    import transformers

    write_images(folder)
    data = ImageFolder(folder / "images" / "train")
    config = transformers.ViTConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        image_size=SIDE,
        patch_size=8,
        id2label=dict(enumerate(data.classes)),
        label2id={name: at for at, name in enumerate(data.classes)},
    )
    processor = transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE})
    rows = [
        {"pixel_values": processor(image, return_tensors="pt")["pixel_values"][0], "labels": y} for image, y in data
    ]
    torch.manual_seed(0)
    _trainer(transformers.ViTForImageClassification(config), rows, processor, folder, 12)


def hugging_face_texts(folder: Path) -> None:
    """``texts.csv`` and ``out``: the folders that the Trainer saved of a small BERT, with its tokenizer."""
    import pandas as pd
    import tokenizers
    import transformers

    rows = list(_texts())
    pd.DataFrame(rows, columns=["id", "split", "text", "label"]).to_csv(folder / "texts.csv", index=False)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *" ".join(WORDS.values()).split()]
    model = tokenizers.models.WordPiece({word: at for at, word in enumerate(vocabulary)}, unk_token="[UNK]")
    raw = tokenizers.Tokenizer(model)
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    raw.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, model_max_length=32, **special)
    names = sorted(WORDS)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        id2label=dict(enumerate(names)),
        label2id={name: at for at, name in enumerate(names)},
        pad_token_id=0,
    )
    items = [
        dict(tokenizer(text, padding="max_length", max_length=32)) | {"labels": names.index(label)}
        for _, split, text, label in rows
        if split == "train"
    ]
    torch.manual_seed(0)
    _trainer(transformers.BertForSequenceClassification(config), items, tokenizer, folder, 6)


def _texts() -> Iterator[tuple[str, str, str, str]]:
    """(id, split, text, label) of texts of ten words of one topic, a few labels wrong."""
    random = np.random.default_rng(0)
    names = sorted(WORDS)
    for row in range(400):
        topic = row % 3
        words = random.choice(WORDS[names[topic]].split(), 10)
        label = (topic + 1) % 3 if row % 20 == 7 else topic
        yield f"t{row:03d}", "train" if row < 300 else "test", " ".join(words), names[label]


def _trainer(model: nn.Module, rows: list[dict[str, Any]], processor: Any, folder: Path, epochs: int) -> None:
    """The Trainer of Hugging Face, which saves after each epoch."""
    import transformers

    settings = transformers.TrainingArguments(
        str(folder / "out"),
        num_train_epochs=epochs,
        per_device_train_batch_size=50,
        learning_rate=3e-3,
        save_strategy="epoch",
        save_total_limit=3,
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    transformers.Trainer(model=model, args=settings, train_dataset=rows, processing_class=processor).train()


def timm(folder: Path) -> None:
    """``images`` and ``output/train/digits``: the checkpoints and ``args.yaml`` of timm's training script."""
    import timm as library
    import yaml
    from timm.utils import CheckpointSaver

    write_images(folder)
    output = folder / "output" / "train" / "digits"
    output.mkdir(parents=True)
    arguments = {
        "model": "resnet10t",
        "num_classes": 10,
        "img_size": SIDE,
        "mean": [0.0, 0.0, 0.0],
        "std": [1.0, 1.0, 1.0],
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "class_map": "",
    }
    (output / "args.yaml").write_text(yaml.safe_dump(arguments), encoding="utf8")
    torch.manual_seed(0)
    model = library.create_model("resnet10t", num_classes=10)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    saver = CheckpointSaver(model, optimizer, checkpoint_dir=str(output), recovery_dir=str(output))
    trained(model, folder, lambda epoch: saver.save_checkpoint(epoch, metric=float(epoch)))


def scikit_learn(folder: Path) -> None:
    """``images`` and ``predictions.csv``: out-of-fold probabilities of a logistic regression, one column per class."""
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    write_images(folder)
    rows = list(digits())
    inputs, labels = np.stack([picture.ravel() / 16 for _, _, picture, _ in rows]), np.array([row[3] for row in rows])
    train = np.array([row[0] == "train" for row in rows])
    model = LogisticRegression(max_iter=300)
    p = np.empty((len(rows), 10))
    p[train] = cross_val_predict(model, inputs[train], labels[train], method="predict_proba", cv=3)
    p[~train] = model.fit(inputs[train], labels[train]).predict_proba(inputs[~train])
    frame = pd.DataFrame(p, columns=CLASSES)
    frame.insert(0, "example_id", [f"{split}/{CLASSES[label]}/{row:04d}.png" for split, row, _, label in rows])
    frame.to_csv(folder / "predictions.csv", index=False)


def notebook(folder: Path) -> None:
    """``images`` and ``final.pth``: the dataset and the network are made in the page's own first cell."""
    one_checkpoint(folder)


JOURNEYS: dict[str, Callable[[Path], None]] = {
    "one .pth": one_checkpoint,
    "Lightning": lightning,
    "images of Hugging Face": hugging_face_images,
    "texts of Hugging Face": hugging_face_texts,
    "timm": timm,
    "scikit-learn": scikit_learn,
    "a notebook": notebook,
}
