"""The Model Registry: a sealed model becomes a version that a dashboard shows and a server can be started from.

`rest.py` speaks with the service, `answers.py` knows what its answers mean, `entries.py` finds, creates and changes one
entry, `description.py` says what is written there and `card.py` what the model says of itself (both pure),
`registration.py` is the story that a job tells.
"""

from syncer.registration.description import Description, describe
from syncer.registration.registration import Registration

__all__ = ["Description", "Registration", "describe"]
