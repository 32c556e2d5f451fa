"""What a file costs in memory from listing to seal: a model may have a hundred thousand of them."""

import pytest

from tests.support.measured_memory import of_its_own


@pytest.mark.parametrize("what", ["first_run", "second_run", "journal"])
def test_it_takes_little_for_each_file(what: str) -> None:
    of_its_own("-m", "tests.support.file_costs", what)
