"""How much memory something takes, measured in a process of its own.

tracemalloc beside the threads that other tests have left behind has crashed an interpreter: one of them ends in the
very moment in which the measuring begins or ends.
"""

import subprocess
import sys

_PROGRAM = """
import tracemalloc
{before}
tracemalloc.start()
{measured}
print(tracemalloc.get_traced_memory()[1])
"""


def peak_of(measured: str, *, before: str) -> int:
    """Bytes that the statements `measured` need at most, after those of `before`."""
    return int(of_its_own("-c", _PROGRAM.format(before=before, measured=measured)).split()[-1])


def of_its_own(*arguments: str) -> str:
    """What a Python process with these arguments prints, which must not fail."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
