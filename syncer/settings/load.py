"""From the environment and the command line to `Settings`, with all problems at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from pydantic import SecretStr, ValidationError

from syncer.errors import ConfigurationError, first_few
from syncer.settings import destination as destinations
from syncer.settings import exposure, rules
from syncer.settings import source as sources
from syncer.settings.command_line import CommandLine
from syncer.settings.compression import read_compression
from syncer.settings.layers import Layers, read_layers
from syncer.settings.locations import Settings, Share, SourceLocation, Transfer, UploadedByHand
from syncer.settings.network import read_network
from syncer.settings.reading import Reading
from syncer.settings.registry import read_registry
from syncer.settings.reporting import read_reporting
from syncer.settings.scan import unknown_names
from syncer.settings.tasks import of_stage, read_tasks
from syncer.settings.variables import Variables, known_names, parse, secret_fields

HINT: Final = (
    "correct the Secret or the environment (docs/settings.md has every variable) and start again; a Job must be "
    "deleted and created anew"
)
_NAMED_AT_ONCE: Final = 5
"""Problems that the one-line message spells out; `ConfigurationError.problems` has all."""

_ENV: Final = os.environ
"""The only place in this program that the real environment is taken from."""


def load(
    environ: Mapping[str, str] = _ENV,
    *,
    command_line: CommandLine | None = None,
    needs_source: bool = True,
    needs_destination: bool = True,
    registers: bool = True,
    compresses: bool = False,
) -> Settings:
    """What the environment and the command line mean together.

    Raises `ConfigurationError` with every problem that there is.  A command that looks at the destination alone
    (`verify`, `wait`) passes `needs_source=False`: then a source that is missing or not understood is none.  A
    destination that is needed may still be missing when the model was uploaded by hand.  A command that registers
    nothing passes `registers=False`: then the registry's variables are not looked at.  One that does nothing but
    compress passes `compresses=True`.
    """
    known = known_names()
    layers = read_layers(environ, command_line or CommandLine(), known)
    problems = unknown_names(environ, known) + layers.problems
    variables = _parse(layers, problems)
    reading = Reading(variables, layers, problems)
    skip, reading.notes[:] = read_tasks(variables.skip_tasks)
    skip = of_stage(skip, variables.stage)
    network, reporting = read_network(reading), read_reporting(reading)
    chosen = destinations.choose_destination(reading, skip=skip)
    source = _source(reading, chosen, needed=needs_source)
    if needs_destination and not _has_destination(reading) and not isinstance(source, UploadedByHand):
        destinations.require(reading)
    registry = read_registry(reading) if registers and "register" not in skip else None
    ends = () if chosen.location is None else (chosen.location,)
    compressing = needs_source and "compress" not in skip and (compresses or variables.compressed is None)
    compression = read_compression(reading, source, ends, alone=compresses) if compressing else None
    for location in chosen.locations:
        problems += rules.broken_rules(source, location, delete=variables.delete)
    problems += rules.written_twice(chosen.locations)
    problems += rules.broken_shares(variables.share, variables.shares)
    if needs_source and (variables.shares or 1) > 1:
        problems += rules.unshareable(source, chosen.locations, compresses=compression is not None)
    if problems:
        raise _error(problems)
    if variables.sdk_endpoint:
        reading.notes.append("AWS_ENDPOINT_URL is not used: it would mean source and destination alike")
    reading.notes += exposure.remarks(reading, source, chosen.locations, network)
    if chosen.skipped:
        skip |= {"upload"}
    return Settings(
        source=source,
        destination=chosen.location,
        further=chosen.further,
        network=network,
        transfer=Transfer(
            chunk_size=variables.chunk_size,
            max_files=variables.max_files,
            max_threads_per_file=variables.max_threads_per_file,
            memory=variables.memory,
            bandwidth=variables.bandwidth,
            digest=variables.digest,
            force=variables.force,
        ),
        reporting=reporting,
        delete=variables.delete,
        share=Share(variables.share or 0, variables.shares) if variables.shares else None,
        deadline=variables.deadline,
        wait_for_destination=variables.wait_for_destination,
        skip=skip,
        stage=variables.stage,
        model_name=variables.model_name,
        model_version=variables.model_version,
        registry=registry,
        compression=compression,
        notes=tuple(dict.fromkeys(reading.notes)),
        origins=dict(layers.places),
        every_secret=(*_secrets(variables), *reading.secrets),
    )


def _parse(layers: Layers, problems: list[str]) -> Variables:
    """The variables; those that make no sense are reported and have their default, so that the rest can be judged."""
    try:
        return parse(layers.by_precedence)
    except ValidationError as error:
        wrong = set()
        for detail in error.errors(include_url=False, include_input=False):
            name = str(detail["loc"][0])
            wrong.add(name)
            reason = detail.get("ctx", {}).get("error", detail["msg"])
            problems.append(f"{layers.place(name)} {reason}")
        sound = [{name: text for name, text in layer.items() if name not in wrong} for layer in layers.by_precedence]
        return parse(sound)


def _source(reading: Reading, chosen: destinations.Chosen, *, needed: bool) -> SourceLocation | None:
    if not needed:
        # Whatever is wrong with it is the business of the run that reads it.
        return sources.choose_source(Reading(reading.variables, reading.layers), chosen)
    before = len(reading.problems)
    source = sources.choose_source(reading, chosen)
    if source is None and len(reading.problems) == before and not sources.is_named(reading):
        sources.require(reading)
    return source


def _has_destination(reading: Reading) -> bool:
    """Whether a destination is named, be it a wrong one, which is a problem of its own."""
    return any(map(reading.is_set, ("S3_SYNC_DEST__PATH", "S3_BUCKET", "AWS_S3_BUCKET", "BUCKET_NAME", "OCI_IMAGE")))


def _secrets(variables: Variables) -> list[SecretStr]:
    # Of a proxy's URL only the login is secret, which `effective.secrets` takes out of it.
    values = (getattr(variables, name) for name in secret_fields() if not name.endswith("_proxy"))
    return [value for value in values if isinstance(value, SecretStr)]


def _error(problems: list[str]) -> ConfigurationError:
    unique = tuple(dict.fromkeys(problems))
    message = first_few(unique, _NAMED_AT_ONCE)
    if len(unique) > 1:
        message = f"{len(unique)} problems: {message}"
    return ConfigurationError(message, hint=HINT, problems=unique)
