"""scoring.data.adapters and scoring.data.adapters.npz: image folders, .npz files, and the keys of a [[data]] table."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.data.adapters import open_sources
from scoring.data.labels import Labels


def audit_of(root, data, classes=("cat", "dog"), media="image"):
    """An audit whose only source is the lines ``data``."""
    (root / "audit.toml").write_text(
        f"format = 1\nmedia = {media!r}\nclasses = {list(classes)}\n[[data]]\n{data}\n", encoding="utf8"
    )
    return Audit.open(root)


def source_of(root, data, **options):
    return open_sources(audit_of(root, data, **options))[0]


def save(path, colour=0, size=(4, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, colour).save(path)
    return path


# ---------------------------------------------------------------------------------------------------- folders


def test_a_folder_per_class_is_read_in_natural_order(tmp_path):
    for name in ("dog/img10.png", "dog/img2.PNG", "cat/a.png"):
        save(tmp_path / "train" / name)
    listing = source_of(tmp_path, 'path = "train"\nsplit = "train"').listing()
    assert listing.names == ["cat/a.png", "dog/img2.PNG", "dog/img10.png"]
    assert listing.labels == ["cat", "dog", "dog"]
    assert listing.splits == ["train"] * 3


def test_deeper_folders_belong_to_their_class(tmp_path):
    save(tmp_path / "train/cat/black/2020/a.png")
    listing = source_of(tmp_path, 'path = "train"\nsplit = "train"').listing()
    assert listing.labels == ["cat"]


def test_a_class_can_be_a_path_of_folders(tmp_path):
    save(tmp_path / "train/animals/cat/a.png")
    save(tmp_path / "train/animals/dog/old/a.png")
    listing = source_of(tmp_path, 'path = "train"\nsplit = "train"', classes=["animals/cat", "animals/dog"]).listing()
    assert listing.labels == ["animals/cat", "animals/dog"]


def test_hidden_files_are_passed_over_and_other_kinds_are_listed(tmp_path):
    save(tmp_path / "train/cat/a.png")
    for name in (".DS_Store", "cat/.a.png.swp", "cat/Thumbs.db", ".git/x.png", "__MACOSX/cat/a.png", "cat/notes.txt"):
        (tmp_path / "train" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "train" / name).write_bytes(b"")
    listing = source_of(tmp_path, 'path = "train"\nsplit = "train"').listing()
    assert listing.names == ["cat/a.png"]
    assert listing.skipped == ["cat/notes.txt"]


def test_the_pool_needs_no_class_folders_and_has_no_labels(tmp_path):
    save(tmp_path / "pool/a.png")
    save(tmp_path / "pool/unknown/b.png")
    listing = source_of(tmp_path, 'path = "pool"\nsplit = "pool"').listing()
    assert listing.names == ["a.png", "unknown/b.png"]
    assert listing.labels is None


def test_a_picture_outside_any_class_folder_has_no_label(tmp_path):
    save(tmp_path / "train/a.png")
    listing = source_of(tmp_path, 'path = "train"\nsplit = "train"').listing()
    assert listing.labels == [None]
    assert listing.unlabelled == "is not in a class folder"


def test_a_folder_named_like_a_picture_is_listed_not_entered(tmp_path):
    save(tmp_path / "train/cat/b.png/inside.png")
    save(tmp_path / "train/cat/a.png")
    listing = source_of(tmp_path, 'path = "train"\nsplit = "train"').listing()
    assert listing.names == ["cat/a.png", "cat/b.png"]


def test_links_are_followed_and_a_circle_of_links_ends(tmp_path):
    save(tmp_path / "elsewhere/a.png")
    (tmp_path / "train").mkdir()
    (tmp_path / "train/cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/round").symlink_to(tmp_path / "train")
    listing = source_of(tmp_path, 'path = "train"\nsplit = "train"').listing()
    assert listing.names == ["cat/a.png"]


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps no such names")
def test_a_file_name_that_is_no_text_is_a_problem_of_that_file(tmp_path):
    save(tmp_path / "train/cat/a.png")
    with open(os.fsencode(tmp_path / "train/cat/") + b"\xff.png", "wb") as file:
        file.write(b"x")
    listing = source_of(tmp_path, 'path = "train"\nsplit = "train"').listing()
    assert list(listing.problems.values()) == ["its file name is not UTF-8; rename it"]


def test_extensions_choose_the_files_and_a_loader_takes_all(tmp_path):
    (tmp_path / "code.py").write_text("def load(path): ...")
    for name in ("cat/a.dcm", "cat/b.png", "cat/c"):
        save(tmp_path / "train/cat/x.png").rename(tmp_path / "train" / name)
    data = 'path = "train"\nsplit = "train"\n'
    assert source_of(tmp_path, data + 'extensions = [".DCM"]').listing().names == ["cat/a.dcm"]
    assert len(source_of(tmp_path, data + 'loader = "code.py:load"').listing()) == 3


def test_originals_are_given_as_stored_and_mode_converts(tmp_path):
    path = save(tmp_path / "train/cat/a.png")
    source = source_of(tmp_path, 'path = "train"\nsplit = "train"')
    assert source.original(0, str(path)).mode == "L"
    source = source_of(tmp_path, 'path = "train"\nsplit = "train"\nmode = "RGB"')
    assert source.original(0, str(path)).mode == "RGB"


def test_a_loader_reads_what_pillow_cannot(tmp_path):
    (tmp_path / "code.py").write_text(
        "import numpy as np\ndef load(path):\n    return np.fromfile(path, 'u2').reshape(2, 3)"
    )
    (tmp_path / "train/cat").mkdir(parents=True)
    np.arange(6, dtype="u2").tofile(tmp_path / "train/cat/a.raw")
    source = source_of(tmp_path, 'path = "train"\nsplit = "train"\nloader = "code.py:load"')
    assert source.original(0, str(tmp_path / "train/cat/a.raw")).tolist() == [[0, 1, 2], [3, 4, 5]]


# -------------------------------------------------------------------------------------------------------- npz


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_arrays_and_their_labels_are_found_by_usual_names(tmp_path, write):
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write(tmp_path / "a.npz", x=images, y=np.array([0, 1]))
    source = source_of(tmp_path, 'path = "a.npz"\nsplit = "test"')
    assert source.listing().labels == [0, 1]
    assert np.array_equal(source.original(1, None), images[1])


def test_an_original_may_be_written_into(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3, 4)))
    source = source_of(tmp_path, 'path = "a.npz"\nsplit = "pool"')
    source.original(0, None)[:] = 1
    assert source.original(0, None).sum() == 0


def test_uncompressed_arrays_stay_on_the_disk(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        x=np.zeros((2, 3, 4)),
        f=np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        e=np.zeros((0, 4, 4)),
        u=np.array(["ä", "bc"]),
    )
    source = source_of(tmp_path, 'path = "a.npz"\nsplit = "pool"')
    assert isinstance(source._inputs, np.memmap)
    for name in ("f", "e", "u"):
        assert np.array_equal(source._array(name), np.load(tmp_path / "a.npz")[name])


def test_named_arrays_ids_and_metadata(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        pictures=np.zeros((2, 3, 4)),
        truth=np.array(["cat", "dog"]),
        names=np.array([10, 11]),
        age=np.array([3.5, 4.5]),
    )
    listing = source_of(
        tmp_path,
        'path = "a.npz"\nsplit = "test"\ninputs = "pictures"\nlabels = "truth"\nids = "names"\nmetadata = ["age"]',
    ).listing()
    assert listing.labels == ["cat", "dog"]
    assert listing.ids == ["10", "11"]
    assert listing.metadata["age"].to_pylist() == [3.5, 4.5]


@pytest.mark.parametrize("labels", [[[0], [1]], [[1, 0], [0, 1]], [0, 1]])
def test_labels_in_a_column_or_one_hot_are_indices(tmp_path, labels):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3, 4)), y=np.array(labels))
    found = source_of(tmp_path, 'path = "a.npz"\nsplit = "test"').listing().labels
    assert [Labels(["cat", "dog"]).name(label) for label in found] == ["cat", "dog"]


def test_the_columns_of_one_hot_labels_are_outputs_and_never_names(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3, 4)), y=np.array([[0, 1], [1, 0]]))
    source = source_of(tmp_path, 'path = "a.npz"\nsplit = "test"', classes=["1", "0"])
    assert source.listing().labels == ["0", "1"]
    with pytest.raises(HardlookError, match="do not fit 3 classes"):
        source_of(tmp_path, 'path = "a.npz"\nsplit = "test"', classes=["1", "0", "2"]).listing()


@pytest.mark.parametrize("labels", [[[1, 1], [0, 1]], [[0, 0], [0, 1]], [[2, 3], [4, 5]]])
def test_several_hot_labels_are_refused(tmp_path, labels):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3, 4)), y=np.array(labels))
    with pytest.raises(HardlookError, match="multi-label"):
        source_of(tmp_path, 'path = "a.npz"\nsplit = "test"').listing()


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_arrays_of_objects_are_never_unpickled(tmp_path, write):
    write(tmp_path / "a.npz", x=np.zeros((1, 3, 4)), y=np.array([{"a": 1}], dtype=object))
    with pytest.raises(HardlookError, match="'y'.*cannot be read.*dtype=str"):
        source_of(tmp_path, 'path = "a.npz"\nsplit = "test"').listing()


def test_flat_pictures_need_their_shape(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(12.0).reshape(2, 6))
    with pytest.raises(HardlookError, match=r"shape = \[28, 28\]"):
        source_of(tmp_path, 'path = "a.npz"\nsplit = "pool"').listing()
    source = source_of(tmp_path, 'path = "a.npz"\nsplit = "pool"\nshape = [2, 3]')
    assert source.original(1, None).tolist() == [[6, 7, 8], [9, 10, 11]]
    with pytest.raises(HardlookError, match="does not fit"):
        source_of(tmp_path, 'path = "a.npz"\nsplit = "pool"\nshape = [2, 4]').listing()


def test_layout_is_for_showing_the_model_gets_what_is_stored(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3, 8, 3)))
    source = source_of(tmp_path, 'path = "a.npz"\nsplit = "pool"\nlayout = "NCHW"')
    assert source.original(0, None).shape == (3, 8, 3)
    assert source.shown(source.original(0, None)).shape == (8, 3, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('inputs = "xx"', "'xx'.*did you mean x"),
        ('labels = "z"', "no such array"),
        ('labels = "short"', "3 entries for 2"),
        ('metadata = ["age"]', "no array 'age'"),
    ],
)
def test_wrong_names_and_lengths_say_what_is_there(tmp_path, data, message):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3, 4)), short=np.zeros(3))
    with pytest.raises(HardlookError, match=message):
        source_of(tmp_path, f'path = "a.npz"\nsplit = "test"\n{data}').listing()


def test_a_broken_npz_is_one_clear_error(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"no zip")
    with pytest.raises(HardlookError, match="not an .npz file"):
        source_of(tmp_path, 'path = "a.npz"\nsplit = "test"').listing()


def test_vectors_and_texts_in_arrays(tmp_path):
    np.savez(
        tmp_path / "a.npz", x=np.arange(6.0).reshape(2, 3), columns=np.array(["a", "b", "c"]), text=np.array(["x", "y"])
    )
    vectors = source_of(tmp_path, 'path = "a.npz"\nsplit = "pool"', media="vector")
    assert vectors.listing().columns == ["a", "b", "c"]
    assert vectors.original(1, None).tolist() == [3, 4, 5]
    texts = source_of(tmp_path, 'path = "a.npz"\nsplit = "pool"\ninputs = "text"', media="text")
    assert texts.original(1, None) == "y"


# ------------------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('path = "nowhere"\nsplit = "train"', "there is nothing at"),
        ('path = "audit.toml"\nsplit = "train"', "of no known kind"),
        ('split = "train"', "names no data"),
        ('path = "train"', "needs split; one of train, test, pool"),
        ('path = "train"\nsplit = "train"\nadapter = "foldr"', "did you mean folder"),
        ('path = "train"\nsplit = "train"\nloadr = "x.py:y"', "knows no key 'loadr'; did you mean loader"),
        ('path = "train"\nsplit = "train"\nextensions = "png"', "needed list"),
        ('path = "train"\nsplit = "train"\nroot = "/"', "knows no key 'root'"),
        ('path = "audit.toml"\nsplit = "train"\nadapter = "folder"', "is not a folder"),
    ],
)
def test_wrong_tables_are_errors_that_say_what_to_do(tmp_path, data, message):
    save(tmp_path / "train/cat/a.png")
    with pytest.raises(HardlookError, match=message):
        source_of(tmp_path, data).listing()


def test_a_source_travels_to_other_processes_without_its_handles(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(24.0).reshape(2, 3, 4))
    source = source_of(tmp_path, 'path = "a.npz"\nsplit = "pool"')
    source.listing()
    parcel = pickle.dumps(source)
    assert len(parcel) < 2000
    assert np.array_equal(pickle.loads(parcel).original(1, None), source.original(1, None))


def test_every_adapter_documents_itself():
    from scoring.data.adapters import known_adapters

    assert all(adapter.__doc__ for adapter in known_adapters().values())
    assert all("__getstate__" not in vars(adapter) for adapter in known_adapters().values())


def test_adapters_are_found_by_scanning_their_folder():
    from scoring.data.adapters import known_adapters

    found = list(known_adapters())
    assert found == sorted(found) and {"dataset", "folder", "huggingface", "manifest", "npz"} <= set(found)


def test_another_adapter_is_another_file(tmp_path, monkeypatch):
    import importlib
    import sys

    from scoring.data import adapters

    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "listed.py").write_text(
        "from dataclasses import dataclass\n"
        "from scoring.data.adapters.base import Listing, Source\n"
        "@dataclass(kw_only=True)\n"
        "class Listed(Source):\n"
        '    """A list of names, one on each line."""\n'
        '    name = "listed"\n'
        '    endings = (".names",)\n'
        "    def listing(self):\n"
        "        names = self.place.read_text().split()\n"
        "        return Listing(splits=self.one_split(len(names)), names=names)\n"
    )
    monkeypatch.setattr(adapters, "__path__", [*adapters.__path__, str(tmp_path / "more")])
    adapters.known_adapters.cache_clear()
    try:
        (tmp_path / "a.names").write_text("one two")
        source = source_of(tmp_path, 'path = "a.names"\nsplit = "pool"')
        assert source.adapter == "listed" and source.listing().names == ["one", "two"]
        with pytest.raises(HardlookError, match=r"needed a folder, .*\.csv.*\.names.*\.tsv"):
            (tmp_path / "a.xyz").touch()
            source_of(tmp_path, 'path = "a.xyz"\nsplit = "pool"')
    finally:
        adapters.known_adapters.cache_clear()
        sys.modules.pop("scoring.data.adapters.listed", None)
        importlib.invalidate_caches()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": ""}, "has no name"),
        ({"name": "manifest"}, "both claim the name 'manifest'"),
        ({"endings": ".jsonl"}, "needed a tuple"),
        ({"endings": (".csv",)}, "both claim '.csv'"),
        ({"markers": ("dataset_info.json",)}, "both claim 'dataset_info.json'"),
        ({"__annotations__": {"step": "float"}, "step": 1.0}, "key 'step' is of type float; needed str, list"),
        ({"__annotations__": {"key": "str"}}, "key 'key' has no default"),
        (None, "is not a dataclass"),
    ],
)
def test_an_adapter_with_wrong_declarations_is_refused_with_one_sentence(change, sentence):
    from dataclasses import dataclass

    from scoring.data.adapters import check_adapter, known_adapters
    from scoring.data.adapters.base import Source

    kind = type("JsonLines", (Source,), {"name": "jsonl", "endings": (".jsonl",), **(change or {})})
    kind = kind if change is None else dataclass(kw_only=True)(kind)
    with pytest.raises(HardlookError, match=sentence):
        check_adapter(kind, known_adapters().values())


def test_a_path_through_a_link_inside_the_audit_stays_inside(tmp_path):
    save(tmp_path / "disk/cat/a.png")
    root = tmp_path / "audit"
    root.mkdir()
    (root / "train").symlink_to(tmp_path / "disk")
    listing = source_of(root, 'path = "train"\nsplit = "train"').listing()
    assert listing.paths == [str(Path(root) / "train/cat/a.png")]
