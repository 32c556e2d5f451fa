"""The layer that one file of a model becomes: the same bytes for the same file, on every machine and in every run.

A layer is an uncompressed tar: entries for `models/` and the folders below it, the file's own header, its bytes, and
the padding and end mark that POSIX 1003.1 (pax) asks for.  Nothing in it depends on anything but path and content: no
time, no owner, no order.  Weights do not compress, and without compression the bytes of a file lie in the blob as they
are: at `data_offset`, to be read by range.
"""

from __future__ import annotations

import functools
import tarfile
from typing import Final

FOLDER: Final = "models"
"""Where KServe looks for the model in an image."""
MEDIA_TYPE: Final = "application/vnd.oci.image.layer.v1.tar"

_BLOCK: Final = tarfile.BLOCKSIZE
_LARGEST_IN_DIGITS: Final = 8**11 - 1
_FILE_MODE: Final = 0o664
_FOLDER_MODE: Final = 0o775


@functools.lru_cache(maxsize=4096)
def head(path: str, size: int) -> bytes:
    """Everything in the layer before the file's first byte.

    Raises `UnicodeEncodeError` for a path that is no Unicode.
    """
    path.encode()
    parts = [FOLDER, *path.split("/")]
    folders = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
    return b"".join([*map(_folder, folders), _header("/".join(parts), tarfile.REGTYPE, _FILE_MODE, size)])


def tail(size: int) -> bytes:
    """Everything after the file's last byte: padding to a whole block, and two blocks of zeros."""
    return bytes(-size % _BLOCK + 2 * _BLOCK)


def data_offset(path: str, size: int) -> int:
    """Where the first byte of a file lies in its layer: behind the headers of its folders and its own."""
    return len(head(path, size))


def layer_size(path: str, size: int) -> int:
    """Bytes of the whole layer."""
    return len(head(path, size)) + size + len(tail(size))


def _folder(path: str) -> bytes:
    return _header(path, tarfile.DIRTYPE, _FOLDER_MODE, 0)


def _header(path: str, kind: bytes, mode: int, size: int) -> bytes:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.size, entry.mtime = kind, mode, size, 0
    # Clair, which scans the images of Quay, does not know pax sizes: to it the layer would be damaged
    # (https://github.com/containers/olot/pull/210).  GNU's number in the header itself is known more widely.
    if size > _LARGEST_IN_DIGITS:
        return entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
