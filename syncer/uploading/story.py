"""From the paths that a person names to sealed models, and to the Secret that lets the Job complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from syncer import job, logs, marker
from syncer import settings as environment
from syncer.copying import Show
from syncer.errors import ConfigurationError, NotThereYet, SyncerError, first_few
from syncer.retry import Patience, retrying
from syncer.settings import rules
from syncer.settings.command_line import CommandLine
from syncer.settings.locations import DestinationLocation, DirectoryLocation, S3Location, Settings
from syncer.stop import StopSwitch
from syncer.uploading import finishing
from syncer.uploading.paths import Parcel, parcels_of
from syncer.uploading.showing import as_list, say
from syncer.uploading.target import (
    NAMESPACE,
    SECRET,
    Connection,
    await_connection,
    check_name,
    environment_with,
    reached_from_outside,
)

if TYPE_CHECKING:
    from syncer.cluster import Cluster

_FINISHING = Patience(seconds=60.0)
_AT_THE_KEYBOARD = 60.0
"""Seconds of patience with a destination, where the user has not said another: somebody is sitting there."""


@dataclass(frozen=True)
class Wish:
    """What the command line asks for.

    `namespace` and `secret` are empty where the user did not say: then what the environment names as destination goes
    first.  `wait` is in seconds.  `finish` asks for the Secret that lets the Job complete, of a name of its own or of
    the one that the templates know.
    """

    paths: tuple[str, ...]
    namespace: str = ""
    secret: str = ""
    wait: float = 600.0
    finish: bool = False
    finish_secret: str = ""

    @property
    def finishing_secret(self) -> str:
        """The Secret's name."""
        return self.finish_secret or finishing.NAME


@dataclass(frozen=True)
class Scene:
    """Where an upload takes place.

    `settings` are those of the environment, with or without a destination; `adopt` is told the settings of each run
    before it begins, and `show_result` prints.  `here` is the current directory.
    """

    environ: Mapping[str, str]
    said: CommandLine
    settings: Settings
    stop: StopSwitch
    show: Show
    here: Path
    adopt: Callable[[Settings], None]
    show_result: Callable[[str], None]


@dataclass(frozen=True)
class Uploaded:
    """What an upload achieved: a result for each run, in their order, and the destination that all were below."""

    parcels: tuple[Parcel, ...]
    results: tuple[job.Result, ...]
    destination: str


def upload(wish: Wish, scene: Scene) -> Uploaded:
    """Upload what was asked for, list it, and finish if that was asked for.

    The first run that fails ends it; its error says what is done by then.
    """
    parcels = parcels_of(wish.paths, scene.here)
    wanted = _connection(wish, scene.settings)
    with _target(wanted, scene) as (settings, cluster):
        location = settings.destination
        if location is None:
            raise ConfigurationError("no destination is configured", hint="set AWS_S3_BUCKET, or ask a cluster")
        _refuse_images(settings)
        _refuse_overlap(parcels, settings)
        _refuse_to_split(parcels, settings, scene.stop)
        prefix = location.prefix if isinstance(location, S3Location) else ""
        values = finishing.content(parcels, prefix) if wish.finish else _content_if_clear(parcels, prefix)
        results = _runs(parcels, settings, scene)
        if not any(result.skipped for result in results):
            _list(parcels, settings, scene)
            namespace = wanted.namespace if wanted else NAMESPACE
            if wish.finish and cluster is not None:
                _finish(wish, namespace, values, cluster=cluster, stop=scene.stop)
            elif values and isinstance(location, S3Location):
                say("next_step_explained", finishing.next_step(namespace, wish.finishing_secret, values))
    return Uploaded(parcels, tuple(results), location.uri)


# Where to ------------------------------------------------------------------------------------------------------------


def _connection(wish: Wish, settings: Settings) -> Connection | None:
    """The data connection to ask the cluster for; None when the environment says where to."""
    asked = bool(wish.namespace or wish.secret)
    if settings.destination is not None and not asked:
        if wish.finish:
            raise ConfigurationError(
                f"--finish needs a cluster, but the environment names the destination {settings.destination.uri}",
                hint="unset it to ask the cluster, or name the data connection: --namespace demo --secret demo-models",
            )
        return None
    check_name("--finish-secret", wish.finishing_secret)
    wanted = Connection(wish.namespace or NAMESPACE, wish.secret or SECRET, wish.wait)
    wanted.check()
    return wanted


@contextmanager
def _target(wanted: Connection | None, scene: Scene) -> Iterator[tuple[Settings, Cluster | None]]:
    """The settings with their destination, and the cluster that told it, if one did."""
    if wanted is None:
        yield scene.settings, None
        return
    from syncer.cluster import Cluster, find_access

    access = find_access(scene.environ)
    say("cluster_asked", f"Connecting to cluster: {access.server}", server=access.server)
    if access.unchecked:
        note = f"the certificate of {access.server} is not checked: its kubeconfig says insecure-skip-tls-verify"
        logs.logger().warning("settings_noted", note=note)
    with scene.stop.waking(access.interrupt), closing(Cluster(access)) as cluster:
        text = "Recovering Data Connection information (when available from the cluster)."
        say("connection_awaited", text, data_connection=wanted.name)
        connection = await_connection(cluster, wanted, scene.stop)
        environ = environment_with(scene.environ, connection)
        settings = environment.load(environ, command_line=scene.said, needs_source=False, registers=False)
        with reached_from_outside(settings, cluster, scene.stop) as reached:
            yield reached, cluster


def _refuse_images(settings: Settings) -> None:
    """An image is a whole model, pushed from where that is; files of a workstation go where they can join others."""
    images = [each.uri for each in settings.destinations if not isinstance(each, S3Location | DirectoryLocation)]
    if images:
        raise ConfigurationError(
            f"upload takes a bucket or a folder as its destination, not {first_few(images, 5)}",
            hint="unset OCI_IMAGE; `syncer sync PATH oci://registry/repository:tag` makes an image of a folder",
        )


def _refuse_overlap(parcels: Sequence[Parcel], settings: Settings) -> None:
    """What is uploaded and where it goes must not lie in each other (a volume can be a destination too)."""
    problems = [
        problem
        for parcel in parcels
        for path in parcel.source.paths
        for problem in rules.broken_rules(DirectoryLocation(path), settings.destination, delete=settings.delete)
    ]
    if problems:
        raise ConfigurationError(first_few(problems, 5), hint="upload to another place", problems=tuple(problems))


def _refuse_to_split(parcels: Sequence[Parcel], settings: Settings, stop: StopSwitch) -> None:
    """What belongs to the model at the destination cannot become one of its own: the seal of the whole would lie."""
    if not any(parcel.folder for parcel in parcels):
        return
    try:
        with job.open_destination(settings, stop) as destination:
            manifest = marker.read_manifest(destination.control)
    except SyncerError as error:
        if error.retryable or isinstance(error, NotThereYet):
            return  # the runs are patient with a destination that is still in the making, and that holds no model
        raise
    taken = {path.partition("/")[0] for path in (manifest.files if manifest else ()) if "/" in path}
    problems = [
        f"{parcel.told} is a part of the model at {destination.uri}" for parcel in parcels if parcel.folder in taken
    ]
    if problems:
        raise ConfigurationError(
            first_few(problems, 5),
            hint="upload the whole model, its folder with a slash at the end; or give this one another name",
            problems=tuple(problems),
        )


# The runs ------------------------------------------------------------------------------------------------------------


def _runs(parcels: Sequence[Parcel], settings: Settings, scene: Scene) -> list[job.Result]:
    results: list[job.Result] = []
    for parcel in parcels:
        own = _settings_of(parcel, settings)
        scene.adopt(own)
        try:
            results.append(job.sync(own, scene.stop, scene.show, join=parcel.joins))
        except SyncerError as error:
            done = [f"{before.told} is uploaded" for before in parcels[: len(results)]]
            waiting = [f"{after.told} was not begun" for after in parcels[len(results) + 1 :]]
            if state := [*done, *waiting]:
                error.message = f"{parcel.told}: {error.message} ({first_few(state, 10)})"
            raise
    return results


def _settings_of(parcel: Parcel, settings: Settings) -> Settings:
    patience = settings.wait_for_destination
    if "S3_SYNC_WAIT_FOR_DESTINATION" not in settings.origins:
        patience = min(patience, _AT_THE_KEYBOARD)
    return replace(
        settings,
        source=parcel.source,
        destination=_below(settings.destination, parcel.folder),
        wait_for_destination=patience,
    )


def _below(location: DestinationLocation | None, folder: str) -> DestinationLocation | None:
    """The folder of this name inside of a destination; the destination itself without a name."""
    match location:
        case S3Location() if folder:
            return replace(location, prefix=f"{location.prefix}{folder}/")
        case DirectoryLocation() if folder:
            return replace(location, path=location.path / folder)
        case _:
            return location


# What came of it -----------------------------------------------------------------------------------------------------


def _list(parcels: Sequence[Parcel], settings: Settings, scene: Scene) -> None:
    """Print what is at the destination now.  The models are sealed: not being able to list them changes nothing."""
    rows: list[tuple[str, int]] = []
    for parcel in parcels:
        own = _settings_of(parcel, settings)
        try:
            with job.open_destination(own, scene.stop) as destination:
                files = destination.listing().files
                rows += [(destination.uri + path, files[path].size) for path in sorted(files)]
        except SyncerError as error:
            logs.logger(component="upload").warning("upload_not_listed", reason=error.message)
    scene.show_result(as_list(rows, terminal=logs.on_terminal()))


def _content_if_clear(parcels: Sequence[Parcel], prefix: str) -> dict[str, str]:
    """What the finishing Secret would say; empty where only the user knows."""
    try:
        return finishing.content(parcels, prefix)
    except ConfigurationError:
        return {}


def _finish(wish: Wish, namespace: str, values: Mapping[str, str], *, cluster: Cluster, stop: StopSwitch) -> None:
    try:
        text = retrying(
            lambda: finishing.finish(cluster, namespace, wish.finishing_secret, values), patience=_FINISHING, stop=stop
        )
    except SyncerError as error:
        error.message = f"everything is uploaded and sealed, but not finished: {error.message}"
        error.hint = f"once that is repaired: {finishing.creating(namespace, wish.finishing_secret, values)[0]}"
        raise
    say("next_step_explained", text)
