"""Certificate authorities and proxies: what the variables name, and what the platform mounts unasked."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from syncer.settings.locations import Network
from syncer.settings.reading import Reading

MOUNTED_AUTHORITIES: Final = (
    Path("/var/run/secrets/kubernetes.io/serviceaccount/service-ca.crt"),  # OpenShift: the service CA
    Path("/etc/pki/tls/custom-certs/ca-bundle.crt"),  # OpenShift AI: odh-trusted-ca-bundle, as in workbenches
    Path("/etc/pki/tls/custom-certs/odh-ca-bundle.crt"),
    Path("/etc/pki/ca-trust/source/anchors/ca-bundle.crt"),  # a ConfigMap with inject-trusted-cabundle, as RHEL has it
    Path("/etc/ssl/custom-certs/ca-bundle.crt"),
    Path("/etc/ssl/custom-certs/cabundle.crt"),  # KServe's storage initializer
)
"""Where clusters mount certificate authorities; whichever is there is believed in addition to the system's."""


def read_network(reading: Reading) -> Network:
    """How to reach anybody; a missing `AWS_CA_BUNDLE` is a problem, a missing `SSL_CERT_FILE` a note."""
    variables = reading.variables
    files = []
    if (bundle := variables.aws_ca_bundle) is not None:
        if _is_file(bundle):
            files.append(bundle)
        else:
            reading.problems.append(f"{reading.layers.place('AWS_CA_BUNDLE')} names a file that does not exist")
    if (authorities := variables.ssl_cert_file) is not None:
        if _is_file(authorities):
            files.append(authorities)
        else:
            # OpenSSL passes over it in silence, and base images set it to stores that they do not have.
            reading.notes.append("SSL_CERT_FILE names a file that does not exist; it is not used")
    files += [path for path in MOUNTED_AUTHORITIES if _is_file(path)]
    proxies = {"http": variables.http_proxy, "https": variables.https_proxy}
    return Network(
        ca_files=tuple(dict.fromkeys(files)),
        proxies={scheme: proxy.get_secret_value() for scheme, proxy in proxies.items() if proxy is not None},
        no_proxy=variables.no_proxy,
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
