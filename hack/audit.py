"""Asks pip-audit which weaknesses are known of what a lock file holds, and says it when nobody has answered.

    python hack/audit.py [--lenient] requirements.lock...

Left alone, pip-audit counts a package that its data source does not know as one without weaknesses, and exits 0: behind
a mirror, or offline, that is every package.  Exits 0 when all were looked up and are clean, 1 when there is a weakness,
69 when the data source did not answer for every package.  `--lenient` is for CI, which may have no way to it: then
that is said and passes; a weakness that is known does not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, Final

PATIENCE: Final = 120.0
"""Seconds for one lock file: an address that swallows everything must not hold CI up."""


def verdict(lock: str, dependencies: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """The exit code, and what there is to say."""
    weak = [each for each in dependencies if each.get("vulns")]
    unknown = [each["name"] for each in dependencies if "vulns" not in each]
    said = [
        f"{each['name']} {each['version']}: {weakness['id']}, repaired in {', '.join(weakness['fix_versions']) or '-'}"
        for each in weak
        for weakness in each["vulns"]
    ]
    if unknown or not dependencies:
        missing = f"{len(unknown)} of {len(dependencies)} packages are unknown there" if unknown else "no answer"
        said.append(
            f"{lock}: NOT AUDITED by the data source of pip-audit ({missing}): it cannot be reached from here, or a "
            "mirror answers in its place"
        )
    if not said:
        said.append(f"{lock}: no weakness is known of its {len(dependencies)} packages")
    return (1 if weak else os.EX_UNAVAILABLE if unknown or not dependencies else 0), said


def main(locks: list[str], *, lenient: bool = False, patience: float = PATIENCE) -> int:
    """Audit each of `locks`; the worst verdict is the exit code."""
    worst = 0
    for lock in locks:
        code, said = verdict(lock, _ask(lock, patience))
        print("\n".join(said))
        if lenient and code == os.EX_UNAVAILABLE:
            code = 0
        worst = code if worst != 1 and code else worst
    return worst


def _ask(lock: str, patience: float) -> list[dict[str, Any]]:
    """What pip-audit says of each package; nothing where it says nothing."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner=off"]
    command += ["--timeout", "10", "--format", "json", "-r", lock]
    try:
        ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired:
        print(f"pip-audit did not end within {patience:g} s", file=sys.stderr)
        return []
    try:
        found: list[dict[str, Any]] = json.loads(ended.stdout)["dependencies"]
    except (ValueError, KeyError):
        print("".join(ended.stderr.splitlines(keepends=True)[-1:]), end="", file=sys.stderr)
        return []
    return found


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--lenient"]
    sys.exit(main(arguments, lenient="--lenient" in sys.argv[1:]))
