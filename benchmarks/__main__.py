"""`make bench`: placeholder until the suite is whole; ARGS goes to the data path's comparison."""

from __future__ import annotations

import sys

from benchmarks import data_path

if __name__ == "__main__":
    raise SystemExit(data_path.main(sys.argv[1:]))
