"""A bucket as the place where a model comes from."""

from __future__ import annotations

from syncer.errors import SourceChanged, SourceMissing
from syncer.manifest import Listing, ModelFile
from syncer.retry import SMALL_REQUEST, Patience
from syncer.settings.locations import Network, S3Location
from syncer.stores.protocols import Body
from syncer.stores.s3.account import Account
from syncer.stores.s3.ends import SOURCES, End
from syncer.stores.s3.objects import folder_listing, head, open_range
from syncer.stores.s3.refusals import Refusal
from syncer.stores.s3.service import Service
from syncer.wire import Timeouts


class S3Source:
    """A folder of a bucket, or one exact object.  See `Source` for the promises."""

    revision = ""

    def __init__(
        self,
        location: S3Location,
        network: Network,
        *,
        account: Account | None = None,
        end: End | None = None,
        timeouts: Timeouts | None = None,
        patience: Patience = SMALL_REQUEST,
    ) -> None:
        self.service = Service(
            location,
            network,
            end=end or SOURCES[location.scheme],
            account=account,
            timeouts=timeouts,
            patience=patience,
        )
        self._prefix = location.prefix
        self._folder = location.folder
        self._base = self._folder

    @property
    def name(self) -> str:
        """See `Source`."""
        return self.service.name

    def key(self, path: str) -> str:
        """The key of a listed file."""
        return self._base + path

    def listing(self) -> Listing:
        """See `Source`.  Folder first: `models/a` is one object only where nothing lies below `models/a/`."""
        listing = folder_listing(self.service, self._folder, sealed_apart=False)
        self._base = self._folder
        if listing.files:
            return listing
        if self._prefix != self._folder and (single := self._single()) is not None:
            self._base = self._prefix[: -len(single.path)]
            return Listing({single.path: single})
        raise SourceMissing(
            f"{self.name}: no file there",
            hint=f"check {self.service.end.path}: a folder with objects below it, or one exact object",
            store=self.name,
        )

    def look_again(self, file: ModelFile) -> ModelFile:
        """See `Source`.  Tells the content type, which a listing does not."""
        now = head(self.service, self.key(file.path), path=file.path)
        if now is None:
            raise SourceMissing(f"{self.name}: {file.path} is gone", store=self.name, path=file.path)
        return now

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        """See `Source`."""
        body = open_range(self.service, self.key(file.path), file, start, length)
        if isinstance(body, Refusal):
            if body.code != "NoSuchBucket" and body.status in {404, 410, 412, 416}:
                raise SourceChanged(f"{file.path} changed or went away at the source", store=self.name, path=file.path)
            raise self.service.error(body, what=f"read {file.path}", path=file.path)
        return body

    def interrupt(self) -> None:
        """See `Source`."""
        self.service.interrupt()

    def close(self) -> None:
        """See `Source`."""
        self.service.close()

    def _single(self) -> ModelFile | None:
        return head(self.service, self._prefix, path=self._prefix.rpartition("/")[2])
