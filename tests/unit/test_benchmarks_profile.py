"""What a sampled stack is for."""

from __future__ import annotations

import pytest

from benchmarks.profile import folded_stacks, kind_of, perf_stacks, shares

PERF = """
\tffffffff81692bb2 copy_to_user ([kernel.kallsyms])
\tffffffff81638884 __x64_sys_recvfrom ([kernel.kallsyms])
\t          165253 sock_recv_into (/lib/_socket.so)
\t           fe107 _PyEval_EvalFrameDefault (/lib/libpython3.11.so.1.0)

\t          29c379 [unknown] (/lib/libcrypto.so.3)
\t          29f911 SHA256_Update (/lib/libcrypto.so.3)
\t           fe107 _PyEval_EvalFrameDefault (/lib/libpython3.11.so.1.0)

\t           fe107 _PyEval_EvalFrameDefault (/lib/libpython3.11.so.1.0)

"""


def test_stacks_of_perf_are_told_apart() -> None:
    third = pytest.approx(1 / 3)
    assert shares(perf_stacks(PERF)) == {"receive, in the kernel": third, "hash": third, "interpreter": third}


def test_stacks_of_py_spy_are_innermost_first_too() -> None:
    text = "main (entrypoint.py:3);_ssl__SSLSocket_read (_ssl.so) 3\nmain (entrypoint.py:3);__libc_send (libc.so.6) 1\n"
    assert shares(folded_stacks(text)) == {"TLS": 0.75, "send, in the kernel": 0.25}


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        ("MD5_Update (libcrypto.so.3)", "MD5 of parts"),
        ("memset (libc.so.6)", "other"),
        ("futex_wait", "waiting and waking of threads"),
    ],
)
def test_kinds(frame: str, kind: str) -> None:
    assert kind_of([frame, "_PyEval_EvalFrameDefault (libpython3.11.so.1.0)"]) == kind
