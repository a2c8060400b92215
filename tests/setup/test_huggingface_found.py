"""Folders that Hugging Face wrote: a training by its Trainer, datasets that it saved. Nothing else is needed."""

import csv

import numpy as np
import pytest
import torch

from scoring.audit.errors import HardlookError
from scoring.models import load_transform
from tests.conftest import hardlook

from .test_found_audit import last_model, settings

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

WORDS = ["[PAD]", "[UNK]", "good", "fine", "bad", "poor", "film", "the", "a", "was"]
TEXTS = [(f"the film was {word}", label) for word, label in (("good", 1), ("fine", 1), ("bad", 0), ("poor", 0))] * 6


def tokenizer(side="right", **more):
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: n for n, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", padding_side=side, **more
    )


def bert(labels=("neg", "pos"), **more):
    names = dict(enumerate(labels))
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
        num_labels=len(labels),
        id2label=names,
        label2id={name: number for number, name in names.items()},
        pad_token_id=0,
        **more,
    )
    torch.manual_seed(0)
    return transformers.BertForSequenceClassification(config)


def vit(folder, names=("cat", "dog", "eel")):
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    net = transformers.ViTForImageClassification(config)
    net.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return net.eval()


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """``out``: what the Trainer wrote over two epochs of a tiny BERT; ``texts.csv``: its data."""
    monkeypatch.chdir(tmp_path)
    tokens = tokenizer()
    rows = [{**tokens(text, truncation=True, max_length=12), "labels": label} for text, label in TEXTS]
    arguments = transformers.TrainingArguments(
        "out",
        num_train_epochs=2,
        save_strategy="epoch",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        learning_rate=0.02,
    )
    transformers.Trainer(
        model=bert(),
        args=arguments,
        train_dataset=rows,
        processing_class=tokens,
        data_collator=transformers.DataCollatorWithPadding(tokens),
    ).train()
    with open("texts.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "split", "text", "label"])
        for number, (text, label) in enumerate(TEXTS):
            writer.writerow([f"t{number}", "test" if number % 3 == 0 else "train", text, ("neg", "pos")[label]])
    return tmp_path


def test_a_folder_of_the_trainer_is_enough(trained, capsys):
    assert hardlook("new", "my-audit", "--train", "texts.csv", "--checkpoints", "out") == 0
    found = settings(trained / "my-audit")
    assert found["media"] == "text" and found["classes"] == ["neg", "pos"]
    assert found["data"] == [{"path": "../texts.csv", "split_column": "split", "id_column": "id", "text_column": "text",
                              "label_column": "label"}]  # fmt: skip
    run = found["run"]["main"]
    assert [path.rpartition("/")[2] for path in run["checkpoints"]] == ["checkpoint-3", "checkpoint-6"]
    assert run["model"] == "huggingface:../out/checkpoint-6"
    assert run["transform"] == {"tokenizer": "../out/checkpoint-6", "length": 12}
    text = (trained / "my-audit" / "audit.toml").read_text()
    assert "length = 12    # truncation in tokenizer.json" in text
    assert "from id2label of checkpoint-6/config.json" in text
    held = TEXTS[::3]
    net = transformers.AutoModelForSequenceClassification.from_pretrained(trained / "out" / "checkpoint-6").eval()
    with torch.no_grad():
        named = net(**tokenizer()([text for text, _ in held], padding=True, return_tensors="pt")).logits.argmax(1)
    right = sum(int(name) == label for name, (_, label) in zip(named, held, strict=True))
    assert f"accuracy {right / 8:.1%} on the 8 with a label" in capsys.readouterr().out


def test_the_logits_are_those_that_the_library_gives_a_padded_batch(trained):
    assert hardlook("new", "my-audit", "--train", "texts.csv", "--checkpoints", "out") == 0
    place = trained / "out" / "checkpoint-6"
    net = transformers.AutoModelForSequenceClassification.from_pretrained(place).eval()
    texts = ["the film was good", "bad", "a fine film the film was a poor film"]
    with torch.no_grad():
        want = net(**tokenizer()(texts, padding=True, return_tensors="pt")).logits
    transform = load_transform(settings(trained / "my-audit")["run"]["main"]["transform"], trained / "my-audit", "text")
    with last_model(trained / "my-audit") as model, torch.no_grad():
        ours = model(torch.stack([transform(text) for text in texts]))
    assert torch.allclose(ours, want, atol=1e-6) and not torch.allclose(ours[0], ours[1])


def test_every_score_of_the_queue_can_be_computed(trained):
    assert hardlook("new", "my-audit", "--train", "texts.csv", "--checkpoints", "out") == 0
    assert hardlook("score", "my-audit", "--only", "uncertainty,label_quality,vog") == 0


def test_images_go_through_the_folders_own_processor(work, capsys):
    net = vit("my-vit")
    assert hardlook("new", "my-audit", "--train", "images", "--model", "my-vit") == 0
    run = settings(work / "my-audit")["run"]["main"]
    assert run["model"] == "huggingface:../my-vit" and run["checkpoints"] == "../my-vit"
    assert run["transform"] == {"processor": "../my-vit"}
    from PIL import Image

    image = Image.open(work / "images" / "test" / "cat" / "0.png")
    want = transformers.AutoImageProcessor.from_pretrained("my-vit")(image, return_tensors="pt")["pixel_values"]
    ours = load_transform(run["transform"], work / "my-audit")(image)
    assert torch.equal(ours, want[0])
    with last_model(work / "my-audit") as model, torch.no_grad():
        assert torch.equal(model(want).logits, net(want).logits)


def test_classes_of_the_config_that_the_data_does_not_have_are_a_question(work, capsys):
    vit("my-vit", ("CAT", "DOG", "EEL"))
    assert hardlook("new", "my-audit", "--train", "images", "--model", "my-vit") == 0
    shown = capsys.readouterr().out
    assert "the data has 'cat', 'dog', 'eel', which id2label of my-vit/config.json does not name" in shown
    assert 'label_map = { "cat" = "CAT" }' in shown and "first look" not in shown


def test_unnamed_classes_are_the_datas_in_its_librarys_order(work, capsys):
    vit("my-vit", ("LABEL_0", "LABEL_1", "LABEL_2"))
    assert hardlook("new", "my-audit", "--train", "images", "--model", "my-vit") == 0
    assert settings(work / "my-audit")["classes"] == ["cat", "dog", "eel"]
    assert "so the classes are the data's" in capsys.readouterr().out


def test_folders_of_another_task_and_of_several_labels_are_refused(work, capsys):
    config = transformers.BertConfig(vocab_size=10, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    transformers.BertForMaskedLM(config).save_pretrained("mlm")
    assert hardlook("new", "a", "--train", "images", "--model", "mlm") == 1
    assert "a model for another task (architectures = BertForMaskedLM)" in capsys.readouterr().err
    bert(problem_type="multi_label_classification").save_pretrained("multi")
    assert hardlook("new", "a", "--train", "images", "--model", "multi") == 1
    assert "one label per example" in capsys.readouterr().err
    assert not (work / "a").exists()


def test_without_a_tokenizer_the_line_is_a_question(work, capsys):
    bert().save_pretrained("bare")
    with open("t.csv", "w") as file:
        file.write("text,label\nthe film was good,pos\nbad,neg\n")
    assert hardlook("new", "a", "--train", "t.csv", "--model", "bare") == 0
    assert "no tokenizer is in bare or above it" in capsys.readouterr().out
    assert '# tokenizer = "../bare"' in (work / "a" / "audit.toml").read_text()


def test_saved_datasets_and_parquet_files_are_found_with_their_splits_and_names(work, capsys):
    datasets = pytest.importorskip("datasets")
    rng = np.random.default_rng(0)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["eel", "cat", "dog"])})
    parts = {
        split: datasets.Dataset.from_dict(
            {
                "image": [rng.integers(0, 255, (32, 32, 3), dtype=np.uint8) for _ in range(n)],
                "label": [0, 1, 2] * (n // 3),
            },
            features=features,
        )
        for split, n in (("train", 6), ("validation", 3))
    }
    datasets.DatasetDict(parts).save_to_disk("saved")
    for split, part in parts.items():
        (work / "hub" / "data").mkdir(parents=True, exist_ok=True)
        part.to_parquet(f"hub/data/{split}-00000-of-00001.parquet")
    vit("my-vit", ("eel", "cat", "dog"))
    assert hardlook("new", "a", "--train", "saved", "--model", "my-vit") == 0
    found = settings(work / "a")
    assert found["classes"] == ["eel", "cat", "dog"]
    assert [(each["split"], each.get("dataset_split")) for each in found["data"]] == [
        ("train", None),
        ("test", "validation"),
    ]
    assert hardlook("new", "b", "--train", "hub", "--model", "my-vit") == 0
    found = settings(work / "b")
    assert found["classes"] == ["eel", "cat", "dog"]
    assert [(each["split"], each["path"].rpartition("/")[2][:5]) for each in found["data"]] == [
        ("train", "train"),
        ("test", "valid"),
    ]
    assert capsys.readouterr().out.count("first look: 3 examples of the test split") == 2


# -- what the model gets ---------------------------------------------------------------------------------------------


def test_padding_on_the_left_is_masked_there(tmp_path):
    from scoring.models.huggingface import Tokens

    tokenizer("left").save_pretrained(tmp_path)
    ids = Tokens(tmp_path, 6)("the film")
    assert ids.tolist() == [0, 0, 0, 0, 7, 6]


def test_a_text_whose_mask_cannot_be_told_from_its_ids_is_refused(tmp_path):
    from scoring.models.huggingface import Tokens

    tokens = tokenizer()
    tokens.pad_token = "film"
    tokens.save_pretrained(tmp_path)
    assert Tokens(tmp_path, 4)("film good").tolist() == [6, 2, 6, 6]
    with pytest.raises(HardlookError, match="the text ends in the token that pads"):
        Tokens(tmp_path, 4)("good film")


def test_token_types_that_a_model_of_ids_alone_would_not_get_are_refused(tmp_path):
    from scoring.models.huggingface import Tokens

    tokens = tokenizer(model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    tokens.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="$A:1", special_tokens=[])
    tokens.save_pretrained(tmp_path)
    with pytest.raises(HardlookError, match="token types other than 0"):
        Tokens(tmp_path, 4)("good film")


@pytest.mark.parametrize(
    "spec, told",
    [
        ({"tokenizer": "t"}, "no length"),
        ({"tokenizer": "t", "length": 0}, "length = 0"),
        ({"tokenizer": "nix", "length": 4}, "there is no folder"),
        ({"tokenizer": "t", "mode": "RGB"}, "the key 'mode' beside 'tokenizer'"),
        ({"processor": "t"}, "which reads images, but media = 'text'"),
    ],
)
def test_a_wrong_table_of_tokens_is_one_sentence(tmp_path, spec, told):
    (tmp_path / "t").mkdir()
    with pytest.raises(HardlookError, match=told):
        load_transform(spec, tmp_path, "text")
