"""What the person in front of the terminal is told."""

from __future__ import annotations


class Wrong(Exception):
    """Something is not as the demo promises; the text says what."""


def step(text: str) -> None:
    """Announce the next thing that happens."""
    print(f"\n== {text}", flush=True)


def say(text: str) -> None:
    """A line below the announcement."""
    print(f"   {text}", flush=True)
