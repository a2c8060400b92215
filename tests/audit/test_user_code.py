"""The user's code: imported from its folder, told apart from other folders', and its errors named."""

import sys

import pytest

from scoring.audit.errors import HardlookError
from scoring.audit.user_code import load_callable
from scoring.models import build_model

from ..nets import write


@pytest.fixture(autouse=True)
def own_imports(monkeypatch):
    """What a test imports from its folder is gone after it."""
    before = dict(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in set(sys.modules) - set(before):
        if str(getattr(sys.modules[name], "__file__", "") or "").startswith("/tmp"):
            del sys.modules[name]


def test_a_file_imports_the_modules_beside_it(tmp_path):
    write(tmp_path, model="from helpers import width\ndef make():\n    return width", helpers="width = 7")
    assert load_callable("model.py:make", tmp_path)() == 7
    assert not [entry for entry in sys.path[:-1] if entry == str(tmp_path)]


def test_files_in_a_subfolder_import_the_modules_beside_them(tmp_path):
    write(
        tmp_path / "code",
        model="from helpers import width\ndef make():\n    return width",
        helpers="width = 8",
    )
    assert load_callable("code/model.py:make", tmp_path)() == 8


def test_two_audits_with_files_of_the_same_names_do_not_collide(tmp_path):
    for name in "ab":
        write(
            tmp_path / name,
            model="import helpers\ndef make():\n    return helpers.name, __name__",
            helpers=f"name = {name!r}",
        )
    load_callable("model.py:make", tmp_path / "a")
    load_callable("model.py:make", tmp_path / "b")
    assert sys.modules["helpers"].name == "b"
    made = {name: load_callable("model.py:make", tmp_path / name) for name in "ab"}
    assert {name: make()[0] for name, make in made.items()} == {"a": "a", "b": "b"}
    assert load_callable("model.py:make", tmp_path / "a") is made["a"]
    assert sys.modules["helpers"].name == "a"


def test_a_function_may_import_a_sibling_when_it_is_called(tmp_path):
    late = "def make(classes):\n    from helpers import build\n    return build(classes)"
    for name, width in [("a", 5), ("b", 6)]:
        write(
            tmp_path / name,
            late=late,
            helpers=f"from torch import nn\ndef build(c):\n    return nn.Linear({width}, c)",
        )
    built = [build_model("late.py:make", {"classes": 2}, tmp_path / name).in_features for name in "aba"]
    assert built == [5, 6, 5]


def test_a_file_named_as_an_installed_package_shadows_it_for_its_folder_alone(tmp_path):
    import safetensors

    write(
        tmp_path,
        model="import safetensors\ndef make():\n    return safetensors.mine",
        safetensors="mine = True",
    )
    assert load_callable("model.py:make", tmp_path)() is True
    assert sys.modules["safetensors"] is safetensors
    assert hasattr(sys.modules["safetensors"], "safe_open")


def test_a_package_that_is_not_yet_imported_stays_what_it_is(tmp_path, monkeypatch):
    write(tmp_path / "site", latecomer="mine = False")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    write(
        tmp_path / "audit",
        model="import latecomer\ndef make():\n    return latecomer.mine",
        latecomer="mine = True",
    )
    assert load_callable("model.py:make", tmp_path / "audit")() is True
    import latecomer

    assert latecomer.mine is False


def test_what_the_folder_already_gave_is_not_imported_twice():
    from pathlib import Path

    import scoring.audit.storage

    assert (
        load_callable("scoring.audit.errors:HardlookError", Path(scoring.audit.errors.__file__).parents[2])
        is HardlookError
    )
    assert sys.modules["scoring.audit.storage"] is scoring.audit.storage


def test_an_installed_folder_stays_importable_when_another_is_loaded(tmp_path, monkeypatch):
    write(tmp_path / "site", installed="def make():\n    import later\n    return later.mine", later="mine = 5")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    make = load_callable("installed:make", tmp_path / "site")
    write(tmp_path / "audit", model="def make():\n    return 1")
    load_callable("model.py:make", tmp_path / "audit")
    assert "installed" in sys.modules
    assert make() == 5
    load_callable("installed:make", tmp_path / "site")
    assert str(tmp_path / "site") in sys.path and str(tmp_path / "audit") not in sys.path


def test_a_package_beside_the_audit_is_found(tmp_path):
    write(tmp_path / "mynets", __init__="", nets="def make():\n    return 3")
    assert load_callable("mynets.nets:make", tmp_path)() == 3


def test_an_edited_file_is_read_again(tmp_path):
    write(tmp_path, model="def make():\n    return 1")
    assert load_callable("model.py:make", tmp_path)() == 1
    write(tmp_path, model="def make():\n    return 1 + 1")
    assert load_callable("model.py:make", tmp_path)() == 2


@pytest.mark.parametrize(
    "reference, files, said",
    [
        ("modle.py:make", {"model": "x = 1"}, "did you mean model.py"),
        ("model.py:mak", {"model": "def make(): pass"}, "did you mean make"),
        ("model.py:make", {"model": "make = 3"}, "cannot be called"),
        ("model.py:make", {"model": "import absent_package_xyz"}, "install 'absent_package_xyz'"),
        (
            "model.py:make",
            {"model": "a = 1\nb = a / 0"},
            "ZeroDivisionError: division by zero (model.py, line 2)",
        ),
        ("model.py:make", {"model": "import sys\nsys.exit(2)"}, "__main__"),
        ("model.py:make", {"model": "def broken(:"}, "SyntaxError"),
        ("nowhere_xyz.nets:make", {}, "No module named 'nowhere_xyz'"),
        ("model.py", {"model": ""}, "needed file.py:callable"),
    ],
)
def test_a_bad_reference_is_told_with_its_name(tmp_path, reference, files, said):
    write(tmp_path, **files)
    with pytest.raises(HardlookError) as error:
        load_callable(reference, tmp_path)
    assert reference in str(error.value) and said in str(error.value)


def test_a_failed_import_leaves_nothing_and_can_be_repaired(tmp_path):
    write(tmp_path, model="raise OSError('no')")
    with pytest.raises(HardlookError, match="OSError: no"):
        load_callable("model.py:make", tmp_path)
    assert "model" not in sys.modules
    write(tmp_path, model="def make():\n    return 'repaired'")
    assert load_callable("model.py:make", tmp_path)() == "repaired"


def test_a_factory_that_raises_is_told_with_its_arguments_and_line(tmp_path):
    write(tmp_path, model="def make(classes):\n    raise KeyError('width')")
    with pytest.raises(
        HardlookError, match=r"model.py:make\(classes=2\) failed: KeyError: 'width' \(model.py, line 2\)"
    ):
        build_model("model.py:make", {"classes": 2}, tmp_path)
