"""Where the value of a variable comes from, and which place wins.

In this order: the command line, the environment, the file that `NAME_FILE` names, the folder of a mounted Secret, the
default.  An empty value counts as unset everywhere.  White space around a value goes, a byte order mark too: both get
into Secrets by accident and never mean anything.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from syncer.settings.command_line import CommandLine
from syncer.settings.values import absolute_path, undecodable

LARGEST_FILE: Final = 64 * 1024
"""Bytes of the largest file that can hold a value; Secrets hold passwords, not models."""

FILE_SUFFIX: Final = "_FILE"
_EITHER_CASE: Final = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_ENDS: Final = ("S3_SYNC_SRC__", "S3_SYNC_DEST__")
_IN_FOLDER: Final[Mapping[str, tuple[str, ...]]] = {
    "PATH": (),
    "ENDPOINT": ("AWS_S3_ENDPOINT", "AWS_ENDPOINT_URL"),
    "ACCESS_KEY": ("AWS_ACCESS_KEY_ID",),
    "SECRET_KEY": ("AWS_SECRET_ACCESS_KEY",),
    "SESSION_TOKEN": ("AWS_SESSION_TOKEN",),
    "REGION": ("AWS_DEFAULT_REGION", "AWS_REGION"),
    "VALIDATE_TLS": (),
    "DEFAULT_DIRECTORY": (),
}
"""What a mounted Secret may hold: our names, and those of a data connection."""

_SOURCES_IN_FOLDER: Final = (
    "S3_SYNC_COS_",
    "S3_SYNC_USE_IBMCLOUD_CLI",
    "S3_SYNC_LOCAL_UPLOAD_",
    "HUGGINGFACE_",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN",
    "HF_ENDPOINT",
)
"""Beginnings of the names that a `model-source` Secret may have as files, when it is mounted as the source's folder."""

_SURROUNDINGS: Final = ("HOME", "XDG_RUNTIME_DIR")
"""Names that say where other programs keep their files; no variables of ours."""

_BUCKET_IN_FOLDER: Final = ("AWS_S3_BUCKET", "AWS_BUCKET")
_BUCKETS_OF_OTHER_FORMS: Final = ("S3_BUCKET", "AWS_S3_BUCKET", "BUCKET_NAME")


@dataclass
class Layers:
    """The text of all variables, layer by layer; `places` says for each variable where its value was found."""

    command_line: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    surroundings: Mapping[str, str] = field(default_factory=dict)

    @property
    def by_precedence(self) -> tuple[dict[str, str], ...]:
        """The one that wins comes first."""
        return self.command_line, self.environment, self.files, self.folders

    def place(self, name: str) -> str:
        """How the user would call the place that `name` has its value from."""
        return self.places.get(name, name)

    def value(self, name: str) -> str:
        """The text that wins, empty when there is none."""
        return next((layer[name] for layer in self.by_precedence if name in layer), "")


def read_layers(environ: Mapping[str, str], command_line: CommandLine, known: frozenset[str]) -> Layers:
    """Collect the values of all `known` variables; what cannot be read ends up in `problems`."""
    layers = Layers(surroundings={name: environ[name] for name in _SURROUNDINGS if environ.get(name)})
    for name, said_as, text in command_line.given():
        _put(layers, layers.command_line, name, text, place=said_as)
    for name in sorted(known):
        _put(layers, layers.environment, name, _said(environ, name), place=name)
    for name in sorted(known):
        _read_file_of(layers, environ, name)
    for end in _ENDS:
        _read_folder(layers, end, known)
    return layers


def _said(environ: Mapping[str, str], name: str) -> str:
    small = environ.get(name.lower(), "") if name in _EITHER_CASE else ""
    return small if small.strip() else environ.get(name, "")


def _put(layers: Layers, layer: dict[str, str], name: str, text: str, *, place: str) -> None:
    if undecodable(text):
        layers.problems.append(f"{place} holds bytes that are not text (UTF-8)")
        layers.places.setdefault(name, place)
        return
    text = text.strip().removeprefix("\ufeff").strip()
    if text:
        layer[name] = text
        layers.places.setdefault(name, place)


def _read_file_of(layers: Layers, environ: Mapping[str, str], name: str) -> None:
    place = name + FILE_SUFFIX
    path = environ.get(place, "").strip()
    if not path:
        return
    if name in layers.environment:
        layers.problems.append(f"{name} and {place} are both set; unset one of them")
        return
    try:
        _put(layers, layers.files, name, read_small(path), place=place)
    except ValueError as error:
        layers.problems.append(f"{place} {error}")


def _read_folder(layers: Layers, end: str, known: frozenset[str]) -> None:
    variable = f"{end}CREDENTIALS_DIR"
    place, folder = layers.place(variable), layers.value(variable)
    if not folder:
        return
    try:
        path = absolute_path(folder)
    except ValueError:
        return  # a problem that parsing reports
    try:
        there = path.is_dir()
    except OSError:
        there = False
    if not there:
        layers.problems.append(f"{place} names a folder that does not exist; is the Secret mounted there?")
        return
    for name, files in _files_of(layers, end, known):
        for found, text in _first_file(layers, folder, files, variable=variable):
            meant = f"s3://{text.strip()}" if files is _BUCKET_IN_FOLDER else text
            _put(layers, layers.folders, name, meant, place=f"{variable}/{found}")


def _files_of(layers: Layers, end: str, known: frozenset[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each variable that may lie in the folder of one end, with the names that its file may have, the best first."""
    for short, foreign in _IN_FOLDER.items():
        yield end + short, (end + short, short, short.lower(), *foreign)
    if end == "S3_SYNC_SRC__":
        for name in sorted(name for name in known if name.startswith(_SOURCES_IN_FOLDER)):
            yield name, (name,)
    named = ("S3_SYNC_DEST__PATH", *_BUCKETS_OF_OTHER_FORMS)
    if end == "S3_SYNC_DEST__" and not any(layers.value(name) for name in named):
        yield f"{end}PATH", _BUCKET_IN_FOLDER


def _first_file(layers: Layers, folder: str, names: tuple[str, ...], *, variable: str) -> Iterator[tuple[str, str]]:
    for name in names:
        path = f"{folder}/{name}"
        if not os.path.lexists(path):
            continue
        try:
            text = read_small(path)
        except ValueError as error:
            layers.problems.append(f"{variable}: the file {name} {error}")
            return
        if text.strip():
            yield name, text
            return


def read_small(path: str) -> str:
    """The text of a small file; raises ValueError that goes on after the name of who asked for it."""
    if undecodable(path):
        raise ValueError("names a path that is not text (UTF-8)")
    try:
        # A pipe or a device would hang or never end, so look at what was really opened.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "no valid path"
        raise ValueError(f"cannot be read: {reason}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("cannot be read: it is not a plain file")
        content = os.read(descriptor, LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"is larger than {LARGEST_FILE // 1024} KiB, too large for a value")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ValueError("holds bytes that are not text (UTF-8)") from None
