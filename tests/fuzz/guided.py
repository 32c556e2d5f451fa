"""One parser fed by atheris, which keeps each input that has reached code no other one had: `make fuzz-guided`.

Blind changes reach what they hit by luck; this finds its way to the branches behind.  The library's loop ends the
process, with an error at the first input that the parser does not survive.
"""

import random
import sys
import tempfile
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["syncer"]):
    from syncer import logs
    from tests.fuzz.mutation import LONGEST, mutate
    from tests.fuzz.running import ROOM, Lines
    from tests.fuzz.target import Target, survive
    from tests.fuzz.targets import TARGETS

_SECONDS: Final = 10
"""Of wall time for one input: instrumented code is slow, and the machine may be busy."""


def feed(target: Target, *, inputs: int, seed: int, artifact: Path) -> None:
    """Feed so many inputs; one that is not survived is written to `artifact`.  Does not return."""
    logs.configure(stream=Lines(), terminal=False)  # type: ignore[arg-type]  # what is used of a stream

    def changed(data: bytes, longest: int, number: int) -> bytes:
        """Half of the changes know what an input looks like; the library's own are blind."""
        if number % 2:
            return bytes(atheris.Mutate(data, longest))
        seeds = [data, *target.seeds] if data else list(target.seeds)
        return mutate(random.Random(number), seeds, target.repaired)[:longest]

    with tempfile.TemporaryDirectory(prefix="fuzz-") as corpus:
        for number, each in enumerate(target.seeds):
            (Path(corpus) / str(number)).write_bytes(each)
        options = {
            "runs": inputs,
            "seed": seed,
            "max_len": LONGEST,
            "timeout": _SECONDS,
            "rss_limit_mb": 2 * ROOM >> 20,
            "exact_artifact_path": artifact,
        }
        told = [f"-{name}={value}" for name, value in options.items()]
        atheris.Setup([sys.argv[0], *told, corpus], lambda data: survive(target, data), custom_mutator=changed)
        atheris.Fuzz()


if __name__ == "__main__":
    _name, _inputs, _seed, _artifact = sys.argv[1:]
    feed(TARGETS[_name], inputs=int(_inputs), seed=int(_seed), artifact=Path(_artifact))
