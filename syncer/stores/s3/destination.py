"""A bucket as the place where a model goes to."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from syncer.errors import WrongBytes
from syncer.manifest import Listing, Manifest, ModelFile, is_control_path
from syncer.retry import SMALL_REQUEST, Patience
from syncer.settings.locations import Network, S3Location
from syncer.stores.abilities import Abilities
from syncer.stores.protocols import Body, ControlFolder, Cut, Limits, OpenUpload, Source, Upload
from syncer.stores.s3.account import Account
from syncer.stores.s3.calls import list_uploads
from syncer.stores.s3.control import S3ControlFolder
from syncer.stores.s3.copying import Copier
from syncer.stores.s3.documents import Fields
from syncer.stores.s3.ends import DESTINATION
from syncer.stores.s3.objects import delete_objects, folder_listing, list_page, open_range
from syncer.stores.s3.parts import Habits
from syncer.stores.s3.refusals import Refusal
from syncer.stores.s3.service import Service
from syncer.stores.s3.source import S3Source
from syncer.stores.s3.upload import MultipartUpload, PutUpload, abort_upload
from syncer.stores.s3.vacancy import Glances, Vacancy
from syncer.wire import Timeouts

MIB: Final = 1024 * 1024
LIMITS: Final = Limits(
    smallest_part=5 * MIB,
    largest_part=5 * 1024 * MIB,
    most_parts=10_000,
    largest_file=5 * MIB * MIB,
    keeps_content_type=True,
    parts_from_many=True,
)
"""S3's own limits, which its kin share: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""
_LONGEST_KEY: Final = 1024


class S3Destination:
    """A folder of a bucket.  See `Destination` and `ServerCopy` for the promises."""

    limits = LIMITS

    def __init__(
        self,
        location: S3Location,
        network: Network,
        *,
        account: Account | None = None,
        abilities: Abilities | None = None,
        timeouts: Timeouts | None = None,
        patience: Patience = SMALL_REQUEST,
    ) -> None:
        self.service = Service(
            location,
            network,
            end=DESTINATION,
            account=account,
            abilities=abilities,
            timeouts=timeouts,
            patience=patience,
        )
        self._prefix = location.folder
        self._habits = Habits(self.service.abilities, Glances(self.service, self._prefix))
        self._control = S3ControlFolder(self.service, self._habits, self._prefix)
        self._copier = Copier(self.service, self._habits)
        self._nested: frozenset[str] = frozenset()
        self._copied: dict[str, Vacancy] = {}

    @property
    def name(self) -> str:
        """See `Destination`."""
        return self.service.name

    @property
    def uri(self) -> str:
        """See `Destination`."""
        return f"s3://{self.service.bucket}/{self._prefix}"

    @property
    def control(self) -> ControlFolder:
        """See `Destination`."""
        return self._control

    def prepare(self) -> None:
        """See `Destination`.  Answers within seconds; that writing is allowed shows with the lease, before any file."""
        list_page(self.service, self._prefix, what="list the folder", most=1)

    def listing(self) -> Listing:
        """See `Destination`."""
        listing = folder_listing(self.service, self._prefix, sealed_apart=True)
        self._nested = listing.nested
        return listing

    def name_problems(self, paths: Collection[str]) -> list[str]:
        """See `Destination`.  A bucket holds almost any name; these it does not."""
        return [problem for path in sorted(paths) if (problem := self._name_problem(path))]

    def free_bytes(self) -> int | None:
        """No bucket tells."""
        return None

    def open_uploads(self) -> list[OpenUpload]:
        """See `Destination`.  Nested folders are those that the last listing has shown."""
        known = Listing({}, self._nested)
        found = []
        listed: list[tuple[str, str]] = []

        def take(name: str, fields: Fields) -> None:
            if name == "Upload":
                listed.append((fields.get("Key", ""), fields.get("UploadId", "")))

        gone_on: set[tuple[str, str]] = set()
        marker = ("", "")
        while True:
            call = list_uploads(self._prefix, after_key=marker[0], after_token=marker[1])
            page = self.service.try_call(call, what="list unfinished uploads", take=take)
            if isinstance(page, Refusal):
                if page.status in {403, 405, 501}:
                    self.service.abilities.learn("list_open_uploads", has=False)
                    return []  # not allowed, or not there: nobody can tell
                raise self.service.error(page, what="list unfinished uploads")
            self.service.abilities.learn("list_open_uploads", has=True)
            for key, token in listed:
                path = key[len(self._prefix) :]
                inside = key.startswith(self._prefix) and not is_control_path(path)
                if token and inside and not known.nested_above(path):
                    found.append(OpenUpload(path, token))
            listed.clear()
            following = (page.field("NextKeyMarker"), page.field("NextUploadIdMarker"))
            if not page.truncated or not following[0] or following in gone_on:
                return found
            gone_on.add(following)
            marker = following

    def spare(self, paths: Collection[str]) -> None:
        """See `SparesForeign`."""
        self._habits.vacant.clear()
        self._habits.vacant.update(paths)
        self._habits.glances.expect(paths)

    def begin(self, file: ModelFile, cut: Cut, *, resume: str = "") -> Upload:
        """See `Destination`."""
        key = self._prefix + file.path
        if cut.count == 1:
            return PutUpload(self.service, self._habits, file, key)
        upload = MultipartUpload.resume(self.service, self._habits, file, cut, key, resume) if resume else None
        return upload or MultipartUpload.create(self.service, self._habits, file, cut, key)

    def abort_upload(self, upload: OpenUpload) -> None:
        """See `Destination`."""
        abort_upload(self.service, self._prefix + upload.path, upload.token)

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        """See `Destination`."""
        body = open_range(self.service, self._prefix + file.path, file, start, length)
        if isinstance(body, Refusal):
            if body.code != "NoSuchBucket" and body.status in {404, 410, 412, 416}:
                raise WrongBytes(
                    f"{self.name}: {file.path} is not what was written there", store=self.name, path=file.path
                )
            raise self.service.error(body, what=f"read {file.path}", path=file.path)
        return body

    def delete(self, paths: Iterable[str]) -> None:
        """See `Destination`."""
        delete_objects(self.service, [self._prefix + path for path in paths])

    def commit(self, manifest: Manifest) -> None:
        """What a bucket has said to have, it has."""

    def copy_inside(self, source: Source, file: ModelFile) -> str | None:
        """See `ServerCopy`."""
        if not isinstance(source, S3Source):
            return None
        key = self._prefix + file.path
        place = self._copied.setdefault(
            file.path, Vacancy(self.service, self._habits.vacant, file, key, ability="create_if_absent")
        )
        if place.watched:
            place.ours("", sure=False)
        place.tried()
        version = self._copier.copy(source, file, key)
        if version is not None:
            place.end()
            del self._copied[file.path]
        return version

    def interrupt(self) -> None:
        """See `Destination`."""
        self.service.interrupt()

    def close(self) -> None:
        """See `Destination`."""
        self.service.close()

    def _name_problem(self, path: str) -> str:
        if not path or path == "/":
            return f"{path!r}: an object that has the folder's own name"
        try:
            length = len((self._prefix + path).encode())
        except UnicodeEncodeError:
            return f"{path!r}: not UTF-8, which a key must be"
        if length > _LONGEST_KEY:
            return f"{path!r}: the key would have {length} bytes, S3 allows {_LONGEST_KEY}"
        if "\x00" in path:
            return f"{path!r}: a NUL character"
        depth = 0
        for part in path.split("/"):
            depth += -1 if part == ".." else part not in {"", "."}
            if depth < 0:
                return f"{path!r}: leads out of the model's folder"
        return ""
