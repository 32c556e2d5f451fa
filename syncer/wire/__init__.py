"""HTTP/1.1 over pooled connections, made to move big bodies cheaply: `readinto` in, `send` of a view out.

The bytes of a model go through here and nowhere else: a socket and its care, which is TLS, proxies, time limits, reuse,
and an end to everything when the run has to stop.  It knows no store, follows no redirect and repeats nothing unasked,
but for a pooled connection that turns out to be closed before it was of any use (and not even then where it is told
`once`).

`pool.py` is what stores use, `exchange.py` one request and its answer, `response.py` how answers look, `dialing.py` the
way to a host, `proxies.py` the rules of NO_PROXY.
"""

from syncer.wire.dialing import CutOff, Origin, Timeouts
from syncer.wire.exchange import Answer, Exchange
from syncer.wire.pool import Wire
from syncer.wire.response import Garbled, Headers

__all__ = ["Answer", "CutOff", "Exchange", "Garbled", "Headers", "Origin", "Timeouts", "Wire"]
