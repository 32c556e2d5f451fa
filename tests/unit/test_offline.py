"""The guard that keeps the rings on this machine: it must bite, or the word "offline" means nothing."""

import socket

import pytest

from tests.support.offline import ReachedForTheNetworkError, loopback_only


def test_a_connection_to_the_outside_is_refused_before_a_packet_leaves() -> None:
    with socket.socket() as outside, pytest.raises(ReachedForTheNetworkError, match=r"192\.0\.2\.1"):
        outside.connect(("192.0.2.1", 443))


def test_a_name_of_the_outside_is_not_looked_up() -> None:
    with pytest.raises(ReachedForTheNetworkError, match=r"s3\.example\.com"):
        socket.getaddrinfo("s3.example.com", 443)


def test_a_reserved_name_is_unknown_without_asking_anybody() -> None:
    with pytest.raises(socket.gaierror, match=r"bucket\.invalid"):
        socket.getaddrinfo("bucket.invalid", 443)


def test_loopback_is_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(("localhost", server.getsockname()[1])).close()


def test_the_guard_stays_for_the_test_around_it() -> None:
    with loopback_only():
        pass
    with socket.socket() as outside, pytest.raises(ReachedForTheNetworkError):
        outside.connect(("192.0.2.1", 443))
