"""The manual: every topic and link is there, search finds, and every page runs from its first block to its last."""

import json
import re
import shutil
import sys
import tomllib
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dashboard import help as manual
from dashboard.help import FOLDER, address, plain_text, read_topic, resolve, search, slug, topic_names
from dashboard.pages import PAGES
from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.cli import parser
from scoring.reviews import ReviewLog
from scoring.scorers import registry

from ..conftest import hardlook
from ..manual import HELP, PAPERS, ROOT, Block, blocks, commands, run_page
from ..training.test_callbacks import quiet
from .manual_audit import CLASSES, copied, decide, write_audit, write_images

# -- topics and links -------------------------------------------------------------------------------------------------


def links(page):
    """The relative links and images of a page: target."""
    found = manual.LINK.findall(PAPERS[page].read_text(encoding="utf8"))
    return [target for _, _, target in found if not re.match(r"[a-z]+:", target)]


def anchors(path):
    """The anchors of a Markdown file."""
    return {one.anchor for one in manual.split_sections(path.read_text(encoding="utf8"))}


@pytest.mark.parametrize("page", PAPERS)
def test_every_link_leads_to_a_file_and_a_heading(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (PAPERS[page].parent / path).resolve() if path else PAPERS[page]
        assert file.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(file), f"{page}: {target}"


def test_every_topic_is_linked_from_the_index_and_from_the_readme():
    linked = {resolve("index", target)[0] for target in links("index")}
    assert linked >= set(topic_names()) - {"index"}
    shown = {target.removeprefix("dashboard/help/").removesuffix(".md") for target in links("README")}
    assert shown >= set(topic_names()), "the README lists every topic"


@pytest.mark.parametrize("name", topic_names())
def test_a_topic_has_one_title_and_headings_that_differ(name):
    topic = read_topic(name)
    assert [one.level for one in topic.sections].count(1) == 1 and topic.sections[0].level == 1
    assert len({one.anchor for one in topic.sections}) == len(topic.sections)
    assert "###" not in PAPERS[name].read_text(encoding="utf8"), "two levels of headings are drawn"


def test_an_unknown_topic_is_refused_with_the_close_name():
    with pytest.raises(HardlookError, match="did you mean .*teams"):
        read_topic("team")


@pytest.mark.parametrize("one", PAGES, ids=lambda one: one.name)
def test_every_page_has_its_topic(one):
    assert one.topic in topic_names()


@pytest.mark.parametrize("name", registry())
def test_every_score_has_its_heading(name):
    assert name in {one.anchor for one in read_topic("scores").sections}


def test_no_heading_of_the_scores_is_of_a_score_that_is_not_there():
    assert [one.title for one in read_topic("scores").sections[1:]] == list(registry())


@pytest.mark.parametrize("command", sorted(parser()._subparsers._group_actions[0].choices))
def test_every_command_stands_in_a_topic(command):
    topics = [path.read_text(encoding="utf8") for name, path in PAPERS.items() if name != "README"]
    assert any(re.search(rf"hardlook {command}\b(?!-)", text) for text in topics)


def test_links_between_topics_stay_in_the_app_and_others_keep_their_words():
    shown = manual.in_app(
        "[a](vog.md) [b](scores.md#aum) [c](#here) [d](https://x.org) [e](../../LICENSE) ![f](x.png)", "index"
    )
    assert shown == "[a](/help?topic=vog) [b](/help?topic=scores#aum) [c](#here) [d](https://x.org) e "
    assert address(*resolve("recipes/timm", "../scores.md#vog")) == "/help?topic=scores#vog"


@pytest.mark.parametrize("name", topic_names())
def test_in_the_app_no_link_of_a_topic_leads_out_of_it(name):
    for section in read_topic(name).sections:
        for _, words, target in manual.LINK.findall(
            "\n".join(one.content for one in manual.parts(section, name) if one.kind == "text")
        ):
            assert words and target.startswith(("/help", "#", "https://")), target
            if target.startswith("/help"):
                topic, _, anchor = target.removeprefix("/help?topic=").partition("#")
                other = read_topic("index" if topic == "/help" else topic)
                assert not anchor or anchor in {one.anchor for one in other.sections}


def test_an_image_is_shown_where_it_is_there_and_left_out_where_it_is_not(monkeypatch, tmp_path):
    monkeypatch.setattr(manual, "FOLDER", HELP)
    section = read_topic("vog").sections[3]
    assert [one.kind for one in manual.parts(section, "vog")] == ["text", "image", "text"]
    monkeypatch.setattr(manual, "FOLDER", tmp_path)
    assert [one.kind for one in manual.parts(section, "vog")] == ["text", "text"]


def test_a_heading_has_the_anchor_that_a_code_host_gives_it():
    assert slug("When to stop: 5 % and `[goal]`") == "when-to-stop-5--and-goal"
    assert slug("intrinsic_dimension") == "intrinsic_dimension"


def test_the_wheel_holds_every_topic():
    held = (ROOT / "pyproject.toml").read_text(encoding="utf8")
    patterns = re.search(r'"dashboard.help" = \[(.*)\]', held)[1].replace('"', "").split(", ")
    found = {path for pattern in patterns for path in FOLDER.glob(pattern)}
    assert found == set(FOLDER.rglob("*.md"))


def test_the_newest_changes_are_those_of_this_version():
    import scoring

    assert read_topic("changes").sections[1].title == scoring.__version__


# -- search -----------------------------------------------------------------------------------------------------------


def test_search_finds_words_in_text_in_any_case_with_the_sentence_around():
    hits = search("krippendorff")
    assert ("teams", "second-opinions-and-disputes") in [(one.topic, one.anchor) for one in hits]
    hit = next(one for one in hits if one.topic == "teams")
    assert (
        hit.excerpt
        == "/reviews shows agreement per pair, per class and overall, in percent and as Krippendorff's alpha."
    )
    assert search("KRIPPENDORFF") == hits


def test_search_ranks_hits_in_titles_first():
    hits = search("slices")
    assert hits[0].topic == "slices" and hits[0].anchor == ""
    titles = ["slices" in one.title.casefold() for one in hits]
    assert titles == sorted(titles, reverse=True) and not all(titles)


def test_search_needs_every_word_in_one_section_and_finds_nothing_for_nothing():
    assert {one.topic for one in search("exif orientation")} >= {"own-data"}
    assert all("orientation" in f"{one.title} {section_text(one)}".casefold() for one in search("exif orientation"))
    assert search("krippendorff dbscan") == search("nosuchword") == search("   ") == []


def section_text(hit):
    return next(one.text for one in read_topic(hit.topic).sections if one.anchor == hit.anchor or not hit.anchor)


def test_search_reads_code_and_tables():
    assert [one.topic for one in search("--trust-proxy")] == ["teams"]
    (hit,) = [one for one in search("mmengine") if one.topic == "checkpoints"]
    assert hit.excerpt.startswith("mmengine 0.10 · epoch_N.pth;")


def test_an_excerpt_has_no_marks_of_markdown():
    for word in ("vog", "label", "hardlook"):
        for hit in search(word):
            assert not re.search(r"\]\(|\*\*|`|^\|", hit.excerpt), hit.excerpt
            assert len(hit.excerpt) <= manual.LONGEST_EXCERPT + 2
            assert word in f"{hit.title} {hit.excerpt}".casefold()
    assert plain_text("[a](b.md) `c`") == "a c"


# -- every page runs --------------------------------------------------------------------------------------------------

SCORES = "--only uncertainty,vog,neighbours"
PARSED_ALONE = {
    "README": "its commands are those of the index",
    "five-minute-audit": "test_readme runs the demo",
    "scale": "test_workers starts Ray",
    "first-suspects": "test_first_suspects runs each journey on what its library's trainer left",
    "recipes/cluster": "test_workers starts Ray",
    "recipes/team": "its commands are those of the other pages; run below with its audit.toml",
    "own-data": "run below, with a stand-in of OpenCV",
    "extending": "run below, through the contract of a score",
}
ON_AN_AUDIT = {
    "index": {"hardlook new my-audit  ": "hardlook new other"},
    "checkpoints": {},
    "vog": {},
    "slices": {},
    "refit-and-evidence": {},
    "sessions": {},
    "stopping": {},
    "teams": {},
    "exports": {},
    "out-of-distribution": {},
    "api": {},
}
"""Pages that are run on an audit which was trained, scored and reviewed; what is replaced in each."""
NEW = (
    "training-dynamics",
    "tables-and-texts",
    "recipes/one-checkpoint",
    "recipes/lightning",
    "recipes/huggingface",
    "recipes/timm",
    "recipes/scikit-learn",
    "recipes/predictions-csv",
    "recipes/label-studio",
    "recipes/notebook",
)
"""Pages that begin with less."""


def test_every_page_with_something_to_run_is_run():
    with_some = {page for page in PAPERS if commands(page) or blocks(page, "python")}
    assert with_some == {*PARSED_ALONE, *ON_AN_AUDIT, *NEW}


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory):
    """An audit that was trained, scored, sliced and reviewed. Read only."""
    root = write_audit(tmp_path_factory.mktemp("manual") / "my-audit")
    assert hardlook("train", root) == 0
    assert hardlook("score", root) == 0
    assert hardlook("slice", root, "--n-slices", 5) == 0
    decide(root)
    return root


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """An empty working directory in which a page is run; networks that a page makes begin with the same weights."""
    import torch

    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", ON_AN_AUDIT)
def test_a_page_runs_on_an_audit(page, reviewed, workshop):
    copied(reviewed, workshop)
    if page == "checkpoints":
        write_pickled(workshop / "old.ckpt")
    run_page(page, workshop, ON_AN_AUDIT[page])


def write_pickled(path):
    """A checkpoint that needs unpickling: a whole model."""
    import torch

    torch.save(torch.nn.Linear(3, 2), path)


def test_a_recorded_loop_and_the_trainings_of_scores_run(workshop):
    write_audit(workshop / "my-audit")
    names = run_page(
        "training-dynamics", workshop, {"--cross-validate 5": f"--cross-validate 2 {SCORES}", "--seeds 3": "--seeds 1"}
    )
    run = names["run"]
    assert (
        len(run.dynamics_files("main")) == 3 and len(list((workshop / "my-audit/checkpoints/main").glob("*.pt"))) == 3
    )
    assert {"rho", "second_split", "self_supervised", "label_quality"} <= set(run.score_names())


def test_rows_texts_and_a_decision_plane_run(workshop):
    run_page("tables-and-texts", workshop)
    assert list((workshop / "toy").rglob("*cut*")), "the plane is kept"


def test_the_reader_of_sixteen_bits_and_the_commands_of_own_data_run(reviewed, workshop, monkeypatch):
    copied(reviewed, workshop)
    cv2 = types.ModuleType("cv2")
    cv2.IMREAD_UNCHANGED, cv2.imread = -1, lambda path, flag: np.arange(12, dtype=np.uint16).reshape(2, 2, 3)
    monkeypatch.setitem(sys.modules, "cv2", cv2)
    import torch
    from torchvision.models import resnet18

    write_images(workshop)
    torch.save(resnet18(num_classes=3).state_dict(), workshop / "final.pth")
    run_page("own-data", workshop)
    assert (workshop / "photos/audit.toml").is_file()
    names = {}
    exec((workshop / "my-audit/load.py").read_text(), names)
    assert names["read"](Path("x.tif"))[0, 0].tolist() == [2, 1, 0]


def test_the_score_of_the_manual_scores_and_keeps_the_contract():
    import torch

    from scoring.scorers import Shard
    from scoring.scorers._checks import check_scorer

    (block,) = blocks("extending", "python")
    names = {"__name__": "brightness"}
    exec(block.text, names)
    check_scorer(names["Brightness"])
    shard = Shard(
        example_id=np.array(["a"]),
        split=np.array(["test"]),
        labels=np.array([0]),
        classes=["x"],
        inputs=torch.tensor([[[[1.0, 3.0]]]]),
    )
    assert names["Brightness"](scale=2.0).score(shard, None)["mean"].tolist() == [4.0]


# -- recipes ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(workshop):
    """A working directory with the images of an audit that is yet to be made."""
    (workshop / "my-audit").mkdir()
    write_images(workshop / "my-audit")
    return workshop


def trained(model, root, classes, epochs=2):
    """A model that knows its classes, as a user's would: else the check finds it to be no better than chance."""
    from torch.utils.data import Dataset

    from scoring.models.transforms import TableTransform
    from scoring.training.trainer import fit

    transform = TableTransform(
        resize=[32], crop=[32], mode="RGB", mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]
    )
    files = sorted((root / "images" / "train").rglob("*.png"))

    class Pictures(Dataset):
        def __len__(self):
            return len(files)

        def __getitem__(self, number):
            return transform(Image.open(files[number])), classes.index(files[number].parent.name)

    return fit(model, Pictures(), epochs=epochs, lr=0.003, batch_size=30)


@pytest.fixture
def beside(workshop):
    """A working directory with the images of an audit that `hardlook new` is to write beside them."""
    write_images(workshop)
    return workshop


def run_recipe(page, folder, replaced=None):
    """Run a page whose first commands are about the files that it shows after them."""
    for block in blocks(page, "python"):
        if block.file is not None:
            text = block.text
            for old, new in (replaced or {}).items():
                text = text.replace(old, new)
            (folder / block.file).write_text(text)
    run_page(page, folder, replaced)


SMALL = "{ mode = 'RGB', resize = 32, crop = 32, mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }"


def test_the_recipe_of_one_checkpoint_runs(beside):
    import torch
    from torchvision.models import resnet18

    model = trained(resnet18(num_classes=3), beside, ["bird", "cat", "dog"])
    torch.save(model.state_dict(), beside / "final.pth")
    replaced = {
        "--checkpoints final.pth": f'--checkpoints final.pth --transform "{SMALL}"',
        "hardlook score my-audit": "hardlook score my-audit --only uncertainty,neighbours",
        "resize = 256": "resize = 32",
        "crop = 224": "crop = 32",
        "epochs = 8": "epochs = 2",
    }
    run_page("recipes/one-checkpoint", beside, replaced)
    assert len(list((beside / "my-audit/runs/main").glob("dynamics/main/epoch-*"))) == 2, "the training was recorded"


@quiet
def test_the_recipe_of_lightning_runs(beside, monkeypatch):
    monkeypatch.syspath_prepend(str(beside))
    few = "accelerator='cpu', enable_progress_bar=False, enable_model_summary=False"
    try:
        run_recipe(
            "recipes/lightning",
            beside,
            {
                "hardlook score my-audit": f"hardlook score my-audit {SCORES}",
                "hardlook score recorded": f"hardlook score recorded {SCORES},aum",
                "max_epochs=8": f"max_epochs=8, {few}",
                "batch_size=64": "batch_size=8",
            },
        )
    finally:
        for name in ("lit", "fit"):
            sys.modules.pop(name, None)
    assert (beside / "my-audit/runs/main/scores/vog.parquet").is_file()
    assert (beside / "recorded/runs/main/scores/aum.parquet").is_file()


def test_the_recipe_of_timm_runs(beside):
    import timm
    import torch

    model = timm.create_model("resnet10t", num_classes=3)
    for epoch in range(3):
        trained(model, beside, ["bird", "cat", "dog"])
        path = beside / "output" / "train" / "one" / f"checkpoint-{epoch}.pth.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"epoch": epoch, "arch": "resnet10t", "state_dict": model.state_dict()}, path)
    torch.save(model.state_dict(), beside / "weights.pth")
    run_page(
        "recipes/timm",
        beside,
        {
            "--checkpoints output/train/one": f'--checkpoints output/train/one --transform "{SMALL}"',
            "hardlook score my-audit": f"hardlook score my-audit {SCORES}",
        },
    )
    assert (beside / "my-audit/runs/main/scores/vog.parquet").is_file()
    written = tomllib.loads((beside / "other/audit.toml").read_text())["run"]["main"]
    (told,) = blocks("recipes/timm", "toml")
    assert written == tomllib.loads(told.text)["run"]["main"], "the page says what is written"


def test_the_recipe_of_label_studio_runs(workshop):
    """On an export that Label Studio wrote; its answers are made by hand."""
    kept = ROOT / "tests" / "data" / "tool_files" / "label-studio-1.23.2"
    shutil.copytree(kept, workshop / "my-audit")
    tasks = json.loads((kept / "tasks.json").read_text(encoding="utf8"))
    tasks = [task for task in tasks if "Panda" not in json.dumps(task, ensure_ascii=False)]
    (workshop / "my-audit/tasks.json").write_text(json.dumps(tasks), encoding="utf8")
    ids = {task["id"]: task["data"]["image"].replace("/data/", "media/") for task in tasks}
    answers = [
        {"id": at, "data": {"example_id": ids[example], "given_label": given}, "annotations": [
            {"id": at, "completed_by": who, "updated_at": "2025-01-01", "result": [
                {"from_name": "label", "to_name": "item", "type": "choices", "value": {"choices": [label]}}]}]}
        for at, (example, who, given, label) in enumerate([(1, 1, "cat", "cat"), (5, 2, "dog", "cat")])
    ]  # fmt: skip
    (workshop / "answers.json").write_text(json.dumps(answers), encoding="utf8")
    rows = [f"{ids[example]},{p},{1 - p}" for example, p in ((1, 0.75), (5, 0.25))]
    (workshop / "predictions.csv").write_text("\n".join(["example_id,cat,dog", *rows]))
    run_page(
        "recipes/label-studio",
        workshop,
        {
            "hardlook score my-audit": "hardlook import-predictions my-audit predictions.csv",
            "images/train/cat/0.png": ids[1],
            "images/train/cat/1.png": ids[5],
        },
    )
    tasks = json.loads((workshop / "review/label-studio-train.json").read_text(encoding="utf8"))
    assert {task["data"]["example_id"] for task in tasks} == {ids[1], ids[5]}
    audit = Audit.open(workshop / "my-audit")
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        found = log.decisions()
    said = dict(zip(zip(found["example_id"], found["reviewer"], strict=True), found["verdict"], strict=True))
    assert said == {(ids[1], "ana"): "given", (ids[5], "bo"): "other", (ids[5], "ana"): "given"}


@quiet
def test_the_recipe_of_hugging_face_runs(workshop, monkeypatch):
    monkeypatch.syspath_prepend(str(workshop))
    write_bert(workshop / "my-bert")
    write_texts(workshop / "texts.csv")
    run_recipe(
        "recipes/huggingface",
        workshop,
        {
            "hardlook score my-audit": f"hardlook score my-audit {SCORES}",
            "hardlook score recorded": f"hardlook score recorded {SCORES},aum",
            "num_train_epochs=4": "num_train_epochs=4, learning_rate=0.01, use_cpu=True, disable_tqdm=True, "
            "dataloader_pin_memory=False",
            "max_length=128": "max_length=12",
            "length = 128": "length = 12",
        },
    )
    assert (workshop / "my-audit/runs/main/scores/vog.parquet").is_file()
    assert (workshop / "recorded/runs/main/scores/aum.parquet").is_file()


WORDS = {"World": "treaty border minister", "Sports": "goal match team", "Business": "profit market shares"}


def write_texts(path):
    """60 short texts of three classes."""
    random = np.random.default_rng(0)
    rows = ["id,split,text,label"]
    for number in range(60):
        label = list(WORDS)[number % 3]
        text = " ".join(random.choice(WORDS[label].split(), 6))
        rows.append(f"text-{number},{'test' if number >= 42 else 'train'},{text},{label}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows))


def write_bert(folder):
    """A tiny BERT with random weights and a tokenizer of a dozen words, as ``save_pretrained`` leaves them."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir()
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *" ".join(WORDS.values()).split()]
    (folder / "vocab.txt").write_text("\n".join(known))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(known),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        num_labels=3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertForSequenceClassification(config).save_pretrained(folder)


def test_the_recipe_of_scikit_learn_runs(workshop):
    run_recipe("recipes/scikit-learn", workshop)
    assert (workshop / "my-audit/runs/folds/scores/label_quality.parquet").is_file()


def test_the_recipe_of_a_csv_of_predictions_runs(pictures, monkeypatch):
    written = "\n".join(
        f"images/train/{path.parent.name}/{path.name},0.6,0.3,0.1"
        for path in sorted((pictures / "my-audit/images/train").rglob("*.png"))
    )
    (block,) = blocks("recipes/predictions-csv", "csv")
    rows = block.text.strip().splitlines()[2:]
    run_page("recipes/predictions-csv", pictures, {"\n".join(rows): written})
    assert (pictures / "my-audit/runs/forest/scores/uncertainty.parquet").is_file()


def test_the_recipe_of_a_notebook_runs(pictures):
    names = run_page("recipes/notebook", pictures, {"batch_size=64": "batch_size=8"})
    audit, issues = names["audit"], names["issues"]
    assert len(issues) == 1797
    suspects = audit.suspects(5)
    labels = [names["train"].classes[names["train"].samples[row][1]] for row in suspects["row"]]
    assert suspects["label"].tolist() == labels
    assert len(audit.corrected_labels()) == len(names["train"]) + len(names["test"])


def test_the_recipe_of_a_team_runs(reviewed, workshop):
    audit = copied(reviewed, workshop)
    (block,) = blocks("recipes/team", "toml")
    (audit / "audit.toml").write_text((audit / "audit.toml").read_text() + "\n" + block.text)
    run_page("recipes/team", workshop)
    assert (workshop / "report.html").is_file()


def test_a_block_with_a_file_name_is_written_to_that_file():
    assert Block("toml", "# my-audit/audit.toml\nformat = 1\n").file == "my-audit/audit.toml"
    assert Block("python", "# a comment\n").file is None and len(CLASSES) == 3
