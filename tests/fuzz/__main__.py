"""`make fuzz`: very many inputs for every parser of what strangers say, spread over all cores.

Prints a line for each parser.  An input that one did not survive is written below `build/fuzz/`, with its traceback
beside it, and ends the run with 1; `--replay FILE` feeds it again.
"""

import argparse
import hashlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.fuzz.running import Account, Finding, run
from tests.fuzz.targets import TARGETS

BUILD: Final = Path("build/fuzz")
_STINT: Final = 2000
"""Inputs for one process: few enough that a slow parser does not keep all others waiting at the end."""
_DONE: Final = re.compile(r"#(\d+)\s+DONE\s+cov: (\d+) ft: \d+ corp: (\d+)")
"""The last line of libFuzzer, which atheris runs: inputs, edges of the code that were reached, inputs that are kept."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="for all parsers together")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same inputs")
    parser.add_argument("--only", action="append", default=[], help="a parser's name; may be given several times")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--guided", action="store_true", help="by atheris, towards code that no input has reached")
    parser.add_argument("--replay", type=Path, help="feed one input again, whose file name begins with the parser's")
    chosen = parser.parse_args(arguments)
    if chosen.replay is not None:
        return _replay(chosen.replay)
    names = chosen.only or list(TARGETS)
    if chosen.guided:
        return _guided(_counts(names, chosen.inputs), chosen.seed, chosen.processes)
    stints = _stints(names, chosen.inputs, chosen.seed)
    accounts = {name: Account(name) for name in names}
    begun = time.monotonic()
    # Forked for each stint: what one leaves behind, memory above all, is no other one's.
    with multiprocessing.get_context("fork").Pool(chosen.processes, maxtasksperchild=1) as pool:
        try:
            for number, account in enumerate(pool.imap_unordered(_stint, stints), start=1):
                accounts[account.target].add(account)
                if number % 20 == 0:
                    print(f"{number} of {len(stints)} stints", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("stopped: this is what was done", file=sys.stderr)
    _print(accounts.values(), seconds=time.monotonic() - begun, seed=chosen.seed)
    findings = [finding for account in accounts.values() for finding in account.findings]
    for finding in findings:
        print(f"\n{finding.target}: {finding.what}\n  {_keep(finding)}")
    return 1 if findings else 0


def _counts(names: Sequence[str], inputs: int) -> dict[str, int]:
    """How many inputs each parser gets."""
    shares = sum(TARGETS[name].share for name in names)
    return {name: -(-inputs * TARGETS[name].share // shares) for name in names}


def _stints(names: Sequence[str], inputs: int, seed: int) -> list[tuple[str, int, int]]:
    """Parser, number of inputs and seed of each stint, so that all parsers are about as far at any moment."""
    stints = []
    for name, count in _counts(names, inputs).items():
        stints += [
            (start / count, (name, min(_STINT, count - start), seed * 1_000_000 + start))
            for start in range(0, count, _STINT)
        ]
    return [stint for _, stint in sorted(stints)]


def _stint(stint: tuple[str, int, int]) -> Account:
    name, inputs, seed = stint
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return run(TARGETS[name], inputs=inputs, seed=seed)


def _guided(counts: Mapping[str, int], seed: int, processes: int) -> int:
    """A process for each parser, as the library ends the one that it runs in; the exit code."""
    BUILD.mkdir(parents=True, exist_ok=True)

    def survived(name: str) -> bool:
        artifact = BUILD / f"{name}-guided"
        command = [sys.executable, "-m", "tests.fuzz.guided", name, str(counts[name]), str(seed), str(artifact)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if found := _DONE.search(done.stderr):
            print(f"{name:<18}{found[1]:>9}{found[2]:>9}{found[3]:>7}", flush=True)
        if done.returncode:
            print(f"{name}: {artifact}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}", flush=True)
        return done.returncode == 0

    begun = time.monotonic()
    print(f"{'parser':<18}{'inputs':>9}{'reached':>9}{'kept':>7}", flush=True)
    with ThreadPoolExecutor(processes) as pool:
        ended = list(pool.map(survived, counts))
    seconds = time.monotonic() - begun
    print(f"{sum(counts.values())} inputs for {len(counts)} parsers in {seconds:.0f} s, seed {seed}")
    return 0 if all(ended) else 1


def _replay(path: Path) -> int:
    from tests.fuzz.target import survive

    target = TARGETS[path.name.rpartition("-")[0]]
    print(survive(target, path.read_bytes()) or "taken")
    return 0


def _keep(finding: Finding) -> Path:
    BUILD.mkdir(parents=True, exist_ok=True)
    path = BUILD / f"{finding.target}-{hashlib.sha256(finding.what.encode()).hexdigest()[:8]}"
    path.write_bytes(finding.data)
    path.with_suffix(".txt").write_text(
        f"{finding.what}\n\n{finding.trace}", encoding="utf-8", errors="backslashreplace"
    )
    return path


def _print(accounts: Collection[Account], *, seconds: float, seed: int) -> None:
    total = 0
    print(f"{'parser':<18}{'inputs':>9}{'per s':>8}{'grown':>9}{'slowest':>9}  what became of them")
    for account in accounts:
        total += account.inputs
        outcomes = ", ".join(f"{name} {count}" for name, count in account.outcomes.most_common())
        speed = account.inputs / account.seconds if account.seconds else 0
        grown, slowest = f"{account.grown / 2**20:.0f} MiB", f"{account.slowest:.2f} s"
        print(f"{account.target:<18}{account.inputs:>9}{speed:>8.0f}{grown:>9}{slowest:>9}  {outcomes}")
    print(f"{total} inputs for {len(accounts)} parsers in {seconds:.0f} s, seed {seed}")


if __name__ == "__main__":
    sys.exit(main())
