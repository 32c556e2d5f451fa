"""docs/decisions/stores.md: each row names a test that is there, and no test of a difference is left out."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHAPTER = ROOT / "docs/decisions/stores.md"
OF_DIFFERENCES = (
    "tests/real/test_docker_registry.py",
    "tests/flow/test_noobaa_like.py",
    "tests/real/test_rados_gateway.py",
)
OF_THE_SERVERS_THEMSELVES = {
    "test_nobody_is_let_in_without_the_password",
    "test_an_object_comes_back_over_https_with_the_authority_of_the_test",
    "test_both_endpoints_show_the_same_buckets",
    "test_nobody_else_is_trusted_with_its_certificate",
}
"""That they were started as the ring wants them, and nothing that another server would do differently."""


def rows() -> list[list[str]]:
    lines = [line for line in CHAPTER.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


def names_in(module: str) -> set[str]:
    tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
    return {it.name for it in tree.body if isinstance(it, ast.FunctionDef) and it.name.startswith("test_")}


def test_each_row_has_an_answer_and_a_test_that_is_there() -> None:
    assert len(rows()) > 20
    for row in rows():
        assert len(row) == 4, row
        assert row[1], row
        named = re.fullmatch(r"`(tests/\w+/\w+\.py)::(\w+)`", row[3])
        assert named, row
        assert named[2] in names_in(named[1]), row


def test_no_test_of_a_difference_is_left_out() -> None:
    told = {row[3].strip("`") for row in rows()}
    there = {f"{module}::{name}" for module in OF_DIFFERENCES for name in names_in(module) - OF_THE_SERVERS_THEMSELVES}
    assert there <= told
