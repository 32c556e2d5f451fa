"""S3 and everything that speaks its protocol, as a source and as a destination.

All requests are ours, and travel through one `Wire`.  Nothing is taken from the environment but what the settings say,
and no answer is believed beyond what this very store has shown to be true (see `etags.py`).

`source.py` and `destination.py` are the stores; `upload.py`, `control.py` and `copying.py` what a destination is made
of; `service.py` one endpoint, `calls.py` what its control calls look like and `documents.py` their XML; `account.py`
who we are, `signing.py` signatures, `chain.py` keys that nobody gave; `endpoint.py` addresses; `refusals.py` turns
answers into errors.  See `docs/decisions/s3-calls.md`.
"""

from syncer.stores.s3.destination import S3Destination
from syncer.stores.s3.source import S3Source

__all__ = ["S3Destination", "S3Source"]
