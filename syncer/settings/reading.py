"""What the chapters of the resolution share: the variables, where they came from, and the problems found so far."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pydantic import SecretStr

from syncer.settings.layers import Layers
from syncer.settings.locations import S3Location
from syncer.settings.variables import Variables

_Value = TypeVar("_Value")


@dataclass
class Reading:
    """One environment on its way to becoming `Settings`; `problems` and `notes` grow while it is understood.

    `secrets` are those that were found in files which no variable is read from.
    """

    variables: Variables
    layers: Layers
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    secrets: list[SecretStr] = field(default_factory=list)

    def attempt(self, name: str, understand: Callable[[str], _Value], text: str) -> _Value | None:
        """`understand(text)`, or None and one problem that begins with the place of variable `name`."""
        try:
            return understand(text)
        except ValueError as error:
            self.problems.append(f"{self.layers.place(name)} {error}")
            return None

    def is_set(self, name: str) -> bool:
        """Whether a value was found anywhere."""
        return name in self.layers.places

    def from_command_line(self, name: str) -> bool:
        """Whether the command line says it."""
        return name in self.layers.command_line

    def check_token(self, name: str, token: SecretStr | None, what: str) -> None:
        """Report a token with more around it than itself: people paste the whole command, or the header."""
        if token is not None and re.fullmatch(r"[!#-&(-~]+", token.get_secret_value()) is None:
            place = self.layers.place(name)
            self.problems.append(
                f"{place} must be only the {what} itself, without anything before, behind or around it"
            )

    def check_plaintext(self, name: str, endpoint: str) -> None:
        """Report a token that would travel over http to `endpoint` of variable `name`; a note where that is allowed."""
        if not endpoint.startswith("http://"):
            return
        place = self.layers.place(name)
        if self.variables.plaintext_tokens:
            self.notes.append(f"{place} is an http:// address: everybody on the way can read the token")
        else:
            self.problems.append(
                f"{place} is an http:// address, where everybody on the way can read the token: use https://, or set "
                "S3_SYNC_ALLOW_PLAINTEXT_TOKENS=true if that is meant"
            )

    def check_keys(self, keys: Keys) -> None:
        """Report a key without its secret, and the other way round."""
        for first, name, second, other in (
            (keys.access_key, keys.access_name, keys.secret_key, keys.secret_name),
            (keys.secret_key, keys.secret_name, keys.access_key, keys.access_name),
        ):
            # A key that is set and makes no sense is a problem of its own.
            if first and not second and not self.is_set(other):
                self.problems.append(f"{self.layers.place(name)} is set but {other} is missing")
        if keys.session_token and not any(map(self.is_set, (keys.access_name, keys.secret_name))):
            self.problems.append(
                f"{self.layers.place(keys.token_name)} is set but {keys.access_name} and {keys.secret_name} are missing"
            )


@dataclass(frozen=True)
class Keys:
    """A pair of S3 keys, perhaps temporary ones, and the variables that they are given by."""

    access_name: str
    secret_name: str
    token_name: str
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    session_token: SecretStr | None = None

    @property
    def given(self) -> bool:
        """Whether there is anything."""
        return bool(self.access_key or self.secret_key)


def source_keys(variables: Variables) -> Keys:
    """The keys of the source's own variables."""
    return Keys(
        "S3_SYNC_SRC__ACCESS_KEY",
        "S3_SYNC_SRC__SECRET_KEY",
        "S3_SYNC_SRC__SESSION_TOKEN",
        variables.src_access_key,
        variables.src_secret_key,
        variables.src_session_token,
    )


def destination_keys(variables: Variables) -> Keys:
    """The keys of the explicit destination's variables."""
    return Keys(
        "S3_SYNC_DEST__ACCESS_KEY",
        "S3_SYNC_DEST__SECRET_KEY",
        "S3_SYNC_DEST__SESSION_TOKEN",
        variables.dest_access_key,
        variables.dest_secret_key,
        variables.dest_session_token,
    )


def aws_keys(variables: Variables) -> Keys:
    """The two AWS keys, which belong to whichever S3 form is used; a token without them is somebody else's."""
    pair = bool(variables.aws_access_key or variables.aws_secret_key)
    return Keys(
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        variables.aws_access_key,
        variables.aws_secret_key,
        variables.aws_session_token if pair else None,
    )


def with_keys(location: S3Location, keys: Keys) -> S3Location:
    """`location` with `keys`."""
    return replace(location, access_key=keys.access_key, secret_key=keys.secret_key, session_token=keys.session_token)
