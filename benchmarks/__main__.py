"""`make bench`: the data path and the memory of this project against the stub server.

ARGS goes to the data path's comparison: make bench ARGS="--gib 8 --path s3-dir"
"""

from __future__ import annotations

import sys

from benchmarks import data_path, memory

if __name__ == "__main__":
    status = data_path.main(sys.argv[1:])
    print()
    raise SystemExit(max(status, memory.main([])))
