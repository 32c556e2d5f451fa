"""What is wrong with an environment, by the settings' own words."""

from collections.abc import Mapping

import pytest

from syncer.errors import ConfigurationError
from syncer.settings import load


def problems(environ: Mapping[str, str]) -> tuple[str, ...]:
    """All problems that refuse `environ`, none of which shows a canary."""
    with pytest.raises(ConfigurationError) as caught:
        load(environ)
    assert caught.value.exit_code == 78
    assert "canary" not in str(caught.value.problems) + caught.value.message
    return caught.value.problems


def only_problem(environ: Mapping[str, str]) -> str:
    """The one problem that refuses `environ`."""
    [problem] = problems(environ)
    return problem
