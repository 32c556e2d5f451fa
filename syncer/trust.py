"""Which certificate authorities we believe: the system's and the user's, joined, never one instead of the other.

Two forms of the same trust: an `ssl.SSLContext` for our own connections, and the path of a file for SDKs that want one
(in memory, since the image's root file system is read-only).  This module knows no store.
"""

from __future__ import annotations

import importlib.util
import os
import ssl
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from syncer.errors import ConfigurationError

SYSTEM_BUNDLES: Final = (
    Path("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),  # UBI, RHEL, Fedora
    Path("/etc/ssl/certs/ca-certificates.crt"),  # Debian, Ubuntu, Alpine
    Path("/etc/pki/tls/certs/ca-bundle.crt"),  # older RHEL
    Path("/etc/ssl/ca-bundle.pem"),  # SUSE
    Path("/etc/ssl/cert.pem"),  # Alpine, BSD
)
"""Where distributions keep their store in one file; the first that is there is the system's store."""

_PACKAGED_BUNDLES: Final = (("certifi", "cacert.pem"), ("botocore", "cacert.pem"))


class Trust:
    """The system's authorities plus `ca_files`.

    Raises `ConfigurationError` from `context` and `bundle` for a file that cannot be read or holds no certificate; an
    empty file is nothing (OpenShift fills its bundles in later).
    """

    def __init__(self, ca_files: Iterable[Path] = (), *, system_bundles: Iterable[Path] = SYSTEM_BUNDLES) -> None:
        self._ca_files = tuple(ca_files)
        self._system_bundles = tuple(system_bundles)
        self._bundle: _Bundle | None = None

    def context(self, *, verify: bool = True) -> ssl.SSLContext:
        """A context for client connections.  Without `verify` anybody is believed: the caller warns the user."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["http/1.1"])
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        # A cluster's service CA may be an intermediate: what the user trusts is the end of the chain.
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        for path in self._system_files():
            context.load_verify_locations(cafile=path)
        for path, _ in self._extra():
            try:
                context.load_verify_locations(cafile=path)
            except ssl.SSLError as error:
                raise _not_certificates(path) from error
        return context

    def bundle(self) -> str:
        """Path of one file with all certificates, good as long as this object lives."""
        if self._bundle is None:
            parts = [path.read_bytes() for path in self._system_files()]
            for path, content in self._extra():
                if b"-----BEGIN" not in content:
                    raise _not_certificates(path)
                parts.append(content)
            self._bundle = _Bundle(b"\n".join(parts))
        return self._bundle.path

    def _system_files(self) -> Iterator[Path]:
        # `openssl_cafile` is what OpenSSL was built with; `cafile` would let SSL_CERT_FILE replace the system's store.
        built_in = ssl.get_default_verify_paths().openssl_cafile
        for path in (*self._system_bundles, Path(built_in)):
            if path.is_file() and path.stat().st_size:
                yield path
                return
        for package, name in _PACKAGED_BUNDLES:
            spec = importlib.util.find_spec(package)
            if spec is not None and spec.origin is not None and (path := Path(spec.origin).with_name(name)).is_file():
                yield path
                return

    def _extra(self) -> Iterator[tuple[Path, bytes]]:
        for path in self._ca_files:
            try:
                content = path.read_bytes()
            except OSError as error:
                raise ConfigurationError(
                    f"cannot read the certificate authorities in {path}: {error.strerror}",
                    hint="AWS_CA_BUNDLE and SSL_CERT_FILE must name readable PEM files; unset what is not needed",
                    path=str(path),
                ) from error
            if content.strip():
                yield path, content


class _Bundle:
    """One file outside any file system where the kernel can do that, else a temporary one."""

    def __init__(self, content: bytes) -> None:
        try:
            self._fd = os.memfd_create("certificate-authorities")
            self.path = f"/proc/self/fd/{self._fd}"
        except (AttributeError, OSError):  # no Linux, or a kernel or sandbox without it
            self._fd, self.path = tempfile.mkstemp(prefix="certificate-authorities-", suffix=".pem")
        with os.fdopen(os.dup(self._fd), "wb") as file:
            file.write(content)

    def __del__(self) -> None:
        os.close(self._fd)
        if not self.path.startswith("/proc/"):
            Path(self.path).unlink(missing_ok=True)


def _not_certificates(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{path} holds no PEM certificate",
        hint="AWS_CA_BUNDLE, SSL_CERT_FILE and a mounted ca-bundle.crt must hold certificates in PEM form",
        path=str(path),
    )
