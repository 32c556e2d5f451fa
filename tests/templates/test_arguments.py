"""The command line of the code takes the arguments of each template, and means by them what the template does."""

from typing import Any

import pytest
import typer
import typer.main

from syncer.cli import with_command
from syncer.flags import app
from syncer.settings.values import seconds
from tests.support.manifests import container, job


def understood(arguments: list[str]) -> tuple[str, dict[str, Any]]:
    """The sub-command and its parameters, parsed and not carried out; fails for a flag that is not known."""
    name, *rest = with_command(arguments)
    commands: Any = typer.main.get_command(app)
    return name, commands.commands[name].make_context(name, rest).params


def test_synchronize_model() -> None:
    name, parameters = understood(container(job("synchronize-model.yaml"))["args"])
    assert name == "sync"
    assert parameters["verbose"] == 5
    assert parameters["dest_validate"] is False
    assert parameters["src_validate"] is None
    assert parameters["source"] is parameters["destination"] is None


def test_mirror_to_pvc() -> None:
    name, parameters = understood(container(job("mirror-to-pvc.yaml"))["args"])
    assert name == "sync"
    assert parameters["verbose"] == 1


def test_wait_for_model() -> None:
    name, parameters = understood(container(job("wait-for-model.yaml"))["args"])
    assert name == "wait"
    assert seconds(parameters["deadline"]) == 12 * 60 * 60
    assert parameters["dest_validate"] is False
    assert parameters["source"] == parameters["revision"] == ""


@pytest.mark.parametrize("flag", ["--source=s3://bucket/folder/", "--revision=main"])
def test_the_gate_knows_the_flags_that_its_comment_offers(flag: str) -> None:
    name, value = flag.removeprefix("--").split("=", 1)
    assert understood(["wait", flag])[1][name] == value


def test_a_flag_that_does_not_exist_is_noticed() -> None:
    with pytest.raises(Exception, match="--dest-valid"):
        understood(["-vvvvv", "--dest-valid"])
