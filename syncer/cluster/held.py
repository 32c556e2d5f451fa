"""Files for libraries that read certificates and keys from files alone."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO


class HeldFile:
    """A file with `content`, good as long as this object is not closed or gone.

    On Linux it is in memory, outside of any file system: a private key touches no disk, and a container may have no
    place to write.  Elsewhere it is a temporary file of this user.
    """

    _file: IO[bytes]

    def __init__(self, name: str, content: bytes) -> None:
        if hasattr(os, "memfd_create"):
            self._file = os.fdopen(os.memfd_create(name), "w+b")
            self.path = Path(f"/proc/self/fd/{self._file.fileno()}")
        else:
            self._file = tempfile.NamedTemporaryFile(prefix=f"{name}-")  # noqa: SIM115 - it lasts as long as we do
            self.path = Path(self._file.name)
        self._file.write(content)
        self._file.flush()

    def close(self) -> None:
        """Forget it."""
        self._file.close()

    def __del__(self) -> None:
        self.close()
