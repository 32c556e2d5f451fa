"""The registration of one model along its job: `check` before anything, `begin` before bytes, `complete` after them.

A new artifact is `PENDING` while its bytes move, `LIVE` with its URI once they are committed, and `ABANDONED` when the
run that made it fails.  One that was `LIVE` before is not touched until its new bytes are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final, TypeVar

from syncer.errors import SyncerError
from syncer.logs import logger
from syncer.registration import entries
from syncer.registration.description import OURS, Description
from syncer.registration.rest import Rest
from syncer.retry import Patience, retrying
from syncer.settings.locations import Network, RegistryLocation
from syncer.stop import StopSwitch

PATIENCE: Final = Patience(seconds=60.0, first_pause=1.0, longest_pause=10.0, longest_asked=60.0)
"""A registry that is away this long is left to the Job's next pod."""

_FINISHED_LATER: Final = frozenset({"PENDING", "ABANDONED"})
_TOLD: Final = ("source_uri", "source", "revision", "recipe", "manifest")
T = TypeVar("T")


class Registration:
    """What one run does in the registry; every method may be repeated, also by another process."""

    def __init__(
        self, location: RegistryLocation, network: Network, stop: StopSwitch, *, patience: Patience | None = None
    ) -> None:
        self._location = location
        self._rest = Rest(location, network)
        self._stop = stop
        self._patience = patience or PATIENCE
        self._log = logger(component="register")
        self._pending = ""
        self._warned: set[str] = set()

    @property
    def name(self) -> str:
        """The registry's printable name."""
        return self._rest.name

    @property
    def version(self) -> str:
        """What the model's version is called."""
        return self._location.version

    @property
    def title(self) -> str:
        """The model and its version as the registry calls them, for people."""
        return f"{self._location.model} {self._location.version}"

    def call_version(self, name: str) -> None:
        """Call the version so instead of what the settings say."""
        self._location = replace(self._location, version=name)

    def check(self) -> None:
        """Whether the registry is there, is one, and lets us in: before anything costs time."""
        self._patiently(self._rest.find_base)
        self._log.info("registry_found", registry=self._location.endpoint)

    def begin(self) -> None:
        """Let the registry know that the model is on its way.  An artifact that is `LIVE` stays as it is."""
        ids, artifact, created = self._patiently(lambda: self._ensure({"state": "PENDING"}))
        number = ids["ModelArtifact"]
        state = artifact.get("state")
        if not created and state not in _FINISHED_LATER:
            self._log.info("registration_kept", state=state, **ids)
            return
        self._pending = number
        if state != "PENDING":
            self._patiently(
                lambda: entries.change(self._rest, f"model_artifacts/{number}", artifact, {"state": "PENDING"})
            )
        self._log.info("registration_announced", **ids)

    def complete(self, model: Description) -> dict[str, str]:
        """Register what is there now; the ids, as the termination message has them."""
        replaced: dict[str, str] = {}
        ids = self._patiently(lambda: self._complete(model, replaced))
        self._pending = ""
        location = self._location
        if replaced:
            self._log.warning(
                "registration_changed",
                model=location.model,
                version=location.version,
                reason="the version was registered with something else before",
                **replaced,
            )
        self._log.info("model_registered", model=location.model, version=location.version, uri=model.uri, **ids)
        return ids

    def abandon(self) -> None:
        """The run failed: the artifact that it began is `ABANDONED`, unless it is `LIVE` by now.  Never raises ours."""
        number, self._pending = self._pending, ""
        if not number:
            return
        try:
            artifact = entries.read_artifact(self._rest, number)
            if artifact is None or artifact.get("state") != "PENDING":
                return
            path = f"model_artifacts/{number}"
            after = entries.change(self._rest, path, artifact, {"state": "ABANDONED"})
            if after.get("uri") != artifact.get("uri"):  # another run has finished it since we looked
                entries.change(self._rest, path, after, {"state": "LIVE"})
                return
            self._log.warning("registration_abandoned", artifact_id=number)
        except SyncerError as error:
            self._log.warning("registration_unsettled", artifact_id=number, problem=error.message)

    def interrupt(self) -> None:
        """Wake who waits for the registry."""
        self._rest.interrupt()

    def close(self) -> None:
        """Close all connections."""
        self._rest.close()

    def _ensure(self, artifact: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any], bool]:
        """All three entries; ids, the artifact, and whether it was created now."""
        model = self._model({})
        version = self._version(model, {})
        found, created = entries.ensure_artifact(self._rest, str(version["id"]), self._location.model, artifact)
        return _ids(model, version, found), found, created

    def _complete(self, model: Description, replaced: dict[str, str]) -> dict[str, str]:
        """All three entries as they are to be, the artifact last: once it is `LIVE`, nothing is left to fail.

        What is there and differs goes into `replaced`, also that of an attempt which failed half way.
        """
        location, rest = self._location, self._rest
        registered = self._model({})
        properties = model.properties()
        version = self._version(registered, {"customProperties": properties})
        number = str(version["id"])
        artifact = entries.find_artifact(rest, number, location.model)
        replaced.update(_changes(version, artifact, model))
        if told := model.of_the_model(registered):
            entries.change(rest, f"registered_models/{registered['id']}", registered, told)
        entries.change(rest, f"model_versions/{number}", version, {"customProperties": properties}, ours=OURS)
        wanted = model.artifact(storage_key=location.storage_key)
        if artifact is None:
            artifact, _ = entries.ensure_artifact(rest, number, location.model, wanted)
        entries.change(rest, f"model_artifacts/{artifact['id']}", artifact, wanted)
        return _ids(registered, version, artifact)

    def _model(self, body: dict[str, Any]) -> dict[str, Any]:
        owner = {"owner": self._location.author} if self._location.author else {}
        found = entries.ensure_model(self._rest, self._location.model, {**body, **owner})
        self._warn_of_archive(found, "model")
        return found

    def _version(self, model: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        author = {"author": self._location.author} if self._location.author else {}
        found = entries.ensure_version(self._rest, str(model["id"]), self._location.version, {**body, **author})
        self._warn_of_archive(found, "version")
        return found

    def _warn_of_archive(self, entry: dict[str, Any], what: str) -> None:
        if entry.get("state") == "ARCHIVED" and what not in self._warned:
            self._warned.add(what)
            self._log.warning("registration_archived", entry=what, name=entry.get("name"), id=str(entry["id"]))

    def _patiently(self, work: Callable[[], T]) -> T:
        def tell(error: SyncerError, pause: float) -> None:
            self._log.warning("registry_awaited", reason=error.message, pause_seconds=round(pause, 1))

        return retrying(work, patience=self._patience, stop=self._stop, on_retry=tell)


def _ids(model: dict[str, Any], version: dict[str, Any], artifact: dict[str, Any]) -> dict[str, str]:
    return {
        "RegisteredModel": str(model["id"]),
        "ModelVersion": str(version["id"]),
        "ModelArtifact": str(artifact["id"]),
    }


def _changes(version: dict[str, Any], artifact: dict[str, Any] | None, model: Description) -> Iterator[tuple[str, str]]:
    """What another source or place is about to replace in a version that was finished before."""
    if artifact is None or artifact.get("state") in _FINISHED_LATER:
        return
    there, new = version.get("customProperties") or {}, model.properties()
    for name in _TOLD:
        before, after = _text(there.get(name)), _text(new.get(name))
        if before and before != after:
            yield name, f"{before} -> {after or 'none'}"
    if (before := str(artifact.get("uri") or "")) and before != model.uri:
        yield "uri", f"{before} -> {model.uri}"


def _text(value: object) -> str:
    return str(value.get("string_value") or "") if isinstance(value, dict) else ""
