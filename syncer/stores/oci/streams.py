"""The bytes of a layer as they were before compression: forwards while it is looked through, anywhere afterwards.

gzip knows no positions: byte n is only to be had by way of all bytes before it.  So the first pass, which has to read
everything anyway, leaves *milestones* behind: the state of zlib's decoder at a few hundred places (zlib's own
`examples/zran.c` has the idea, `Decompress.copy` makes it one call).  A later range starts at the milestone before it,
and parts of one file can be read side by side.  A layer that is compressed with zstd is refused: its decoder's state
cannot be kept, and Python has none before 3.14.
"""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from syncer.errors import Transient, WrongBytes
from syncer.stores.oci.depot import Depot
from syncer.stores.oci.members import Damaged
from syncer.stores.protocols import Body

MiB: Final = 1024 * 1024
CHUNK: Final = 256 * 1024
"""Bytes that are asked for at once, of either side of the decoder."""
MOST_MILESTONES: Final = 256
"""A milestone costs some 45 KiB: zlib's window of 32 KiB and its tables."""
MOST_MILESTONES_TOGETHER: Final = 1024
"""The same for all layers of an image."""
CLOSEST_MILESTONES: Final = 4 * MiB
MOST_INFLATION: Final = 200
INFLATION_ALLOWED: Final = 1024 * MiB
"""Beyond so many bytes a layer must not unpack to more than `MOST_INFLATION` times its size (gzip can do 1,000)."""

_GZIP: Final = 31  # zlib's manual: windowBits 15, plus 16 for a gzip header and trailer


class Forward(Protocol):
    """Bytes that come one after another: at most `count` at a time, none only at the end."""

    def read(self, count: int) -> bytes: ...
    def close(self) -> None: ...


class BlobReader:
    """A blob from `start` to its end; a stream that breaks is opened again where it broke, as long as it gets on.

    No more than `segment` bytes are asked for at once.  Once `stopped` is set, reading fails with `Transient`.
    """

    def __init__(
        self,
        depot: Depot,
        digest: str,
        size: int,
        *,
        start: int = 0,
        segment: int | None = None,
        stopped: threading.Event | None = None,
    ) -> None:
        self.position = start
        self._depot = depot
        self._digest = digest
        self._size = size
        self._body: Body | None = None
        self._opened_at = -1
        self._segment = segment or size
        self._stopped = stopped or threading.Event()
        self._left = 0
        self._buffer = memoryview(bytearray(CHUNK))

    def read(self, count: int) -> bytes:
        """The next bytes, at most `count`; none at the end."""
        left = self._size - self.position
        if not left:
            return b""
        while True:
            if self._stopped.is_set():
                raise Transient("reading was interrupted", store=self._depot.name)
            try:
                if self._body is None:
                    self._opened_at = self.position
                    self._left = min(left, self._segment)
                    self._body = self._depot.read(self._digest, self.position, self._left)
                got = self._body.readinto(self._buffer[: min(count, self._left)])
            except Transient:
                self.close()
                if self._opened_at == self.position:
                    raise
                continue
            if not got:
                raise Transient(f"the blob {self._digest} ended {left} bytes early", store=self._depot.name)
            self.position += got
            self._left -= got
            if not self._left:
                self.close()
            return bytes(self._buffer[:got])

    def close(self) -> None:
        """Let go of the connection."""
        if self._body is not None:
            self._body.close()
            self._body = None


class Proved:
    """Bytes on their way that must have this digest when they end."""

    def __init__(self, below: Forward, digest: str, *, store: str) -> None:
        self._below = below
        self._digest = digest
        self._store = store
        self._hash = hashlib.sha256()

    def read(self, count: int) -> bytes:
        """The next bytes."""
        data = self._below.read(count)
        self._hash.update(data)
        return data

    def prove(self) -> None:
        """Read what is left and compare; `WrongBytes` when it is another digest."""
        while self.read(CHUNK):
            pass
        found = f"sha256:{self._hash.hexdigest()}"
        if found != self._digest:
            raise WrongBytes(
                f"a layer should be {self._digest}, its bytes are {found}",
                hint="the image is damaged where it lies or on the way from there; push it again",
                stage="list",
                store=self._store,
            )

    def close(self) -> None:
        """Let go of what is below."""
        self._below.close()


@dataclass(frozen=True)
class Milestone:
    """Where decoding can begin: `decoder` has read `packed` bytes of the blob and given `position` bytes.

    `decoder` is None at the begin of a gzip member.
    """

    position: int
    packed: int
    decoder: zlib._Decompress | None = None


class Milestones:
    """The milestones of one layer, thinned out as it grows, so that their memory is bounded."""

    def __init__(self, *, most: int = MOST_MILESTONES, closest: int = CLOSEST_MILESTONES) -> None:
        self._most = most
        self._distance = closest
        self._found = [Milestone(0, 0)]

    def pass_by(self, position: int, packed: int, decoder: zlib._Decompress) -> None:
        """Keep the decoder's state if the last milestone is far enough back."""
        if position - self._found[-1].position < self._distance:
            return
        self._found.append(Milestone(position, packed, None if decoder.eof else decoder.copy()))
        if len(self._found) > self._most:
            self.thin_out()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._found)

    def thin_out(self) -> None:
        """Let every second one go; the first stays."""
        self._found = self._found[::2]
        self._distance *= 2

    def before(self, position: int) -> Milestone:
        """The last one that is not beyond `position`."""
        return max((it for it in self._found if it.position <= position), key=lambda it: it.position)


class Inflated:
    """What gzip packed, forwards from a milestone; several gzip members one after another are one stream (RFC 1952).

    `limit` bounds the bytes that may come out.  `milestones` gathers places to begin at, where somebody wants them.
    """

    def __init__(
        self,
        open_packed: Callable[[int], Forward],
        *,
        limit: int,
        start: Milestone = Milestone(0, 0),
        milestones: Milestones | None = None,
    ) -> None:
        self.position = start.position
        self._packed = open_packed(start.packed)
        self._fed = start.packed
        self._limit = limit
        self._milestones = milestones
        self._decoder = zlib.decompressobj(_GZIP) if start.decoder is None else start.decoder.copy()
        self._waiting = b""
        self._fresh = start.decoder is None

    def read(self, count: int) -> bytes:
        """The next bytes, at most `count`; none at the end.  `Damaged` for what is no gzip."""
        while True:
            if self._decoder.eof and not self._next_member():
                return b""
            ended = not self._waiting and not self._feed()
            if ended and self._fresh:
                return b""
            self._fresh = False
            try:
                data = self._decoder.decompress(self._waiting, count)
            except zlib.error as error:
                raise Damaged("its gzip stream is broken") from error
            # What a member left over begins the next one.
            self._waiting = self._decoder.unused_data if self._decoder.eof else self._decoder.unconsumed_tail
            if not data:
                if ended and not self._decoder.eof:  # the decoder had nothing left inside either
                    raise Damaged("its gzip stream ends early")
                continue
            self.position += len(data)
            if self.position > self._limit:
                raise Damaged(f"it unpacks to more than {self._limit} bytes, out of all proportion to its size")
            if self._milestones is not None:
                self._milestones.pass_by(self.position, self._fed - len(self._waiting), self._decoder)
            return data

    def close(self) -> None:
        """Let go of what is below."""
        self._packed.close()

    def _feed(self) -> bool:
        self._waiting = self._packed.read(CHUNK)
        self._fed += len(self._waiting)
        return bool(self._waiting)

    def _next_member(self) -> bool:
        """Begin the next gzip member, where there is one; zeros behind the last are padding, as gzip(1) has it."""
        while True:
            self._waiting = self._waiting.lstrip(b"\0")
            if self._waiting:
                break
            if not self._feed():
                return False
        self._decoder = zlib.decompressobj(_GZIP)
        self._fresh = True
        return True


def inflation_limit(packed: int) -> int:
    """Bytes that a layer of `packed` bytes may unpack to."""
    return max(INFLATION_ALLOWED, packed * MOST_INFLATION)


class ForwardTape:
    """A `Tape` over bytes that come forwards; `seen` is given all that is taken, and None of what is skipped."""

    def __init__(self, below: Forward) -> None:
        self.position = 0
        self._below = below
        self._held = b""

    def take(self, count: int) -> bytes:
        """The next `count` bytes, fewer only at the end; for headers: all of it is held."""
        pieces = []
        while count and (piece := self.some(count)):
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def some(self, count: int) -> bytes:
        """The next bytes, at most `count` and as they come; none only at the end."""
        if not self._held:
            self._held = self._below.read(CHUNK)
        taken, self._held = self._held[:count], self._held[count:]
        self.position += len(taken)
        return taken

    def skip(self, count: int) -> None:
        """See `Tape`: the bytes are read all the same."""
        while count:
            passed = len(self.some(min(count, CHUNK)))
            if not passed:
                raise Damaged("it ends within a member")
            count -= passed


class InflatedBody:
    """Implements `Body`: the range of an unpacked layer, after what lies between the milestone and it."""

    def __init__(self, stream: Inflated, *, start: int, length: int, store: str) -> None:
        self._stream = stream
        self._skip = start - stream.position
        self._left = length
        self._store = store

    def readinto(self, buffer: memoryview) -> int:
        """Fill some of `buffer`."""
        if not self._left:
            return 0
        try:
            while self._skip:
                self._skip -= len(self._some(min(self._skip, CHUNK)))
            data = self._some(min(len(buffer), self._left, CHUNK))
        except Damaged as error:
            # It was sound when it was looked through: what came now is not what lies there.
            raise Transient(f"a layer came damaged: {error}", store=self._store) from error
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        """Let go of the stream."""
        self._stream.close()

    def _some(self, count: int) -> bytes:
        data = self._stream.read(count)
        if not data:
            raise Transient("a layer ended early", store=self._store)
        return data
