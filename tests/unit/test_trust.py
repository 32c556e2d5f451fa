"""Trust is joined, never replaced."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from syncer.errors import ConfigurationError
from syncer.trust import Trust


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    path = tmp_path / "service-ca.crt"
    trustme.CA().cert_pem.write_to_path(path)
    return path


@pytest.fixture
def system(tmp_path: Path) -> Path:
    path = tmp_path / "system.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return path


def test_extra_authorities_join_the_system_store(system: Path, authority: Path) -> None:
    alone = Trust(system_bundles=[system]).context()
    joined = Trust([authority], system_bundles=[system]).context()
    assert len(alone.get_ca_certs()) == 1
    assert len(joined.get_ca_certs()) == 2
    assert joined.verify_mode is ssl.CERT_REQUIRED
    assert joined.check_hostname


def test_ssl_cert_file_does_not_replace_the_system_store(
    system: Path, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert len(Trust([authority], system_bundles=[system]).context().get_ca_certs()) == 2


def test_a_place_without_a_system_store_falls_back_to_a_packaged_one(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = ssl.DefaultVerifyPaths("", "", "", "/nowhere/cert.pem", "", "/nowhere/certs")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nowhere)
    assert len(Trust(system_bundles=[]).context().get_ca_certs()) > 50


def test_the_bundle_holds_everything_and_needs_no_file_system(system: Path, authority: Path) -> None:
    trust = Trust([authority], system_bundles=[system])
    path = Path(trust.bundle())
    assert path.read_bytes().count(b"-----BEGIN CERTIFICATE-----") == 2
    assert authority.read_bytes() in path.read_bytes()
    assert trust.bundle() == str(path), "made once"
    context = ssl.create_default_context(cafile=str(path))
    assert len(context.get_ca_certs()) == 2


def test_files_without_a_newline_at_the_end_stay_apart(tmp_path: Path, system: Path, authority: Path) -> None:
    authority.write_bytes(authority.read_bytes().rstrip())
    system.write_bytes(system.read_bytes().rstrip())
    trust = Trust([authority], system_bundles=[system])
    assert len(ssl.create_default_context(cafile=trust.bundle()).get_ca_certs()) == 2


def test_a_missing_file_is_named_with_its_variable(tmp_path: Path) -> None:
    trust = Trust([tmp_path / "gone.pem"])
    for use in (trust.context, trust.bundle):
        with pytest.raises(ConfigurationError, match=r"gone\.pem") as caught:
            use()
        assert "AWS_CA_BUNDLE" in caught.value.hint


def test_a_file_without_certificates_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    trust = Trust([path])
    for use in (trust.context, trust.bundle):
        with pytest.raises(ConfigurationError, match=r"notes\.txt holds no PEM"):
            use()


def test_an_empty_file_is_nothing_yet(tmp_path: Path, system: Path) -> None:
    path = tmp_path / "ca-bundle.crt"
    path.write_text("\n")
    trust = Trust([path], system_bundles=[system])
    assert len(trust.context().get_ca_certs()) == 1
    assert Path(trust.bundle()).exists()


def test_without_verification_anybody_is_believed() -> None:
    context = Trust().context(verify=False)
    assert context.verify_mode is ssl.CERT_NONE
    assert not context.check_hostname
