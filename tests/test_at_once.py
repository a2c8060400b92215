"""Two commands at once on one audit, and exports while decisions arrive."""

import pytest

from .at_once import PAIRS, fault, prefix_fault, start


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return start(tmp_path_factory.mktemp("at once") / "start")


@pytest.mark.parametrize("name", PAIRS)
def test_of_two_commands_at_once_one_ends_well_and_the_other_too_or_says_why(folder, name):
    assert fault(folder, name) is None


def test_a_patch_that_is_exported_while_decisions_arrive_is_a_prefix_of_the_log(folder):
    assert prefix_fault(folder, 400) is None
