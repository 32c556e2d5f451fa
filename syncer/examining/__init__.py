"""`syncer doctor`: what a run depends on, looked at step by step before any byte of a model moves.

`story.py` is the order of the steps, `findings.py` what a step leaves behind.  `host.py` looks at this pod, `ways.py`
at the way to each endpoint, `far_ends.py` at what lies at its end, and `tables.py` shows it all.
`afterwards.py` looks at the ways once more when a run has failed.
"""

from syncer.examining.story import Examination, examine

__all__ = ["Examination", "examine"]
