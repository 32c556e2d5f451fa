"""What a file costs in memory from listing to seal: a model may have a hundred thousand of them."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("what", ["first_run", "second_run", "journal"])
def test_it_takes_little_for_each_file(what: str) -> None:
    measured = subprocess.run(
        [sys.executable, "-m", "tests.support.file_costs", what], capture_output=True, text=True, check=False
    )
    assert measured.returncode == 0, measured.stderr
