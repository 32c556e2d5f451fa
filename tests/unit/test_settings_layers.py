"""Where values come from: precedence, files, mounted Secrets, the command line, typos."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncer.errors import ConfigurationError
from syncer.settings import CommandLine, load, secrets
from syncer.settings.locations import S3Location
from syncer.settings.variables import known_names

SOURCE = {"S3_SYNC_SRC__PATH": "s3://bucket/folder/", "S3_SYNC_DEST__PATH": "/mnt/models"}
PAIR = {"S3_SYNC_SRC__ACCESS_KEY": "source-key", "S3_SYNC_SRC__SECRET_KEY": "source-secret"}


def problems(environ: Mapping[str, str], command_line: CommandLine | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load(environ, command_line=command_line)
    return caught.value.problems


def source(environ: Mapping[str, str], command_line: CommandLine | None = None) -> S3Location:
    found = load({**SOURCE, **environ}, command_line=command_line).source
    assert isinstance(found, S3Location)
    return found


def secret_folder(folder: Path, **files: str) -> dict[str, str]:
    """A mounted Secret as the kubelet makes it: links into a hidden folder."""
    (folder / "..2026_11_21").mkdir(parents=True)
    (folder / "..data").symlink_to("..2026_11_21")
    for name, text in files.items():
        (folder / "..2026_11_21" / name).write_text(text)
        (folder / name).symlink_to(f"..data/{name}")
    return {"S3_SYNC_SRC__CREDENTIALS_DIR": str(folder)}


def test_the_order_of_precedence(tmp_path: Path) -> None:
    (tmp_path / "region").write_text("from-file\n")
    folder = secret_folder(tmp_path / "secret", REGION="from-folder\n")
    file = {"S3_SYNC_SRC__REGION_FILE": str(tmp_path / "region")}
    said = {"S3_SYNC_SRC__REGION": "from-environment"}
    assert source({}).region == ""
    assert source(folder).region == "from-folder"
    assert source({**folder, **file}).region == "from-file"
    assert source({**folder, **said}).region == "from-environment"
    assert source({**folder, **said}, CommandLine(src_region="from-flag")).region == "from-flag"
    assert source({**folder, **file}, CommandLine(src_region="from-flag")).region == "from-flag"


def test_origins_name_the_place(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\nsource-secret\r\n")
    folder = secret_folder(tmp_path / "secret", AWS_ACCESS_KEY_ID="source-key\n")
    environ = {**SOURCE, **folder, "S3_SYNC_SRC__SECRET_KEY_FILE": str(tmp_path / "key")}
    found = load(environ, command_line=CommandLine(dest_validate=False, destination="/mnt/other"))
    assert isinstance(found.source, S3Location)
    assert found.source.access_key is not None
    assert found.source.access_key.get_secret_value() == "source-key"
    assert secrets(found) == ["source-key", "source-secret"]
    assert found.origins["S3_SYNC_SRC__ACCESS_KEY"] == "S3_SYNC_SRC__CREDENTIALS_DIR/AWS_ACCESS_KEY_ID"
    assert found.origins["S3_SYNC_SRC__SECRET_KEY"] == "S3_SYNC_SRC__SECRET_KEY_FILE"
    assert found.origins["S3_SYNC_DEST__PATH"] == "DEST"
    assert found.origins["S3_SYNC_DEST__VALIDATE_TLS"] == "--no-dest-validate"


@pytest.mark.parametrize(
    "names",
    [
        ("ACCESS_KEY", "SECRET_KEY", "ENDPOINT", "REGION"),
        ("access_key", "secret_key", "endpoint", "region"),
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_S3_ENDPOINT", "AWS_DEFAULT_REGION"),
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"),
        ("S3_SYNC_SRC__ACCESS_KEY", "S3_SYNC_SRC__SECRET_KEY", "S3_SYNC_SRC__ENDPOINT", "S3_SYNC_SRC__REGION"),
    ],
)
def test_names_in_a_mounted_secret(tmp_path: Path, names: tuple[str, ...]) -> None:
    files = dict(zip(names, ("the-key\n", "the-secret\n", "http://minio:9000\n", "here\n"), strict=True))
    found = source(secret_folder(tmp_path / "secret", **files))
    assert found.access_key is not None
    assert found.secret_key is not None
    assert (found.access_key.get_secret_value(), found.secret_key.get_secret_value()) == ("the-key", "the-secret")
    assert (found.endpoint, found.region) == ("http://minio:9000", "here")


def test_a_mounted_data_connection_is_a_destination(tmp_path: Path) -> None:
    secret_folder(tmp_path / "s", AWS_S3_BUCKET="demo\n", AWS_ACCESS_KEY_ID="k-1234", AWS_SECRET_ACCESS_KEY="s-1234")
    environ = {**PAIR, "S3_SYNC_SRC__PATH": "s3://a/b/", "S3_SYNC_DEST__CREDENTIALS_DIR": str(tmp_path / "s")}
    found = load(environ)
    assert isinstance(found.destination, S3Location)
    assert found.destination.uri == "s3://demo/models/"
    assert found.destination.secret_key is not None
    assert found.destination.secret_key.get_secret_value() == "s-1234"


def test_an_empty_value_is_unset_everywhere(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "region").write_text("from-file")
    environ = {"S3_SYNC_SRC__REGION": "", "S3_SYNC_SRC__REGION_FILE": str(tmp_path / "region")}
    assert source(environ).region == "from-file"
    assert source({"S3_SYNC_SRC__REGION_FILE": str(tmp_path / "empty")}).region == ""
    assert source({"S3_SYNC_SRC__REGION_FILE": "", "S3_SYNC_SRC__REGION": " \n"}).region == ""
    assert source(secret_folder(tmp_path / "s", ACCESS_KEY="", SECRET_KEY="\n")).access_key is None


def test_a_value_twice_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "region").write_text("x")
    environ = {**SOURCE, "S3_SYNC_SRC__REGION": "y", "S3_SYNC_SRC__REGION_FILE": str(tmp_path / "region")}
    assert problems(environ) == ("S3_SYNC_SRC__REGION and S3_SYNC_SRC__REGION_FILE are both set; unset one of them",)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 70_000)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    os.mkfifo(tmp_path / "pipe")
    for name, reason in {
        "missing": "No such file",
        "": "not a plain file",
        "pipe": "not a plain file",
        "large": "larger than 64 KiB",
        "binary": "not text",
        "x" * 5000: "File name too long",
    }.items():
        [problem] = problems({**SOURCE, **PAIR, "S3_SYNC_SRC__SESSION_TOKEN_FILE": f"{tmp_path}/{name}"})
        assert problem.startswith("S3_SYNC_SRC__SESSION_TOKEN_FILE ")
        assert reason in problem


@pytest.mark.parametrize("folder", ["/no/such/folder", "relative", "/etc/hostname", "/x\ny", "/" + "x" * 5000])
def test_folders_that_are_none(folder: str) -> None:
    [problem] = problems({**SOURCE, "S3_SYNC_SRC__CREDENTIALS_DIR": folder})
    assert problem.startswith("S3_SYNC_SRC__CREDENTIALS_DIR ")


def test_a_binary_file_in_a_mounted_secret(tmp_path: Path) -> None:
    environ = secret_folder(tmp_path / "s", ACCESS_KEY="the-key")
    (tmp_path / "s" / "SECRET_KEY").write_bytes(b"\x80\x81")
    found = problems({**SOURCE, **environ})
    assert "S3_SYNC_SRC__CREDENTIALS_DIR: the file SECRET_KEY holds bytes that are not text (UTF-8)" in found


def test_names_that_end_in_file_by_themselves(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("x")
    (tmp_path / "name").write_text(str(tmp_path / "ca.pem"))
    direct = load({**SOURCE, "SSL_CERT_FILE": str(tmp_path / "ca.pem")})
    indirect = load({**SOURCE, "SSL_CERT_FILE_FILE": str(tmp_path / "name")})
    assert tmp_path / "ca.pem" in direct.network.ca_files
    assert direct.network == indirect.network


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("S3_SYNC_SRC__ENDPIONT", "S3_SYNC_SRC__ENDPOINT"),
        ("S3_SYNC_SRC_PATH", "S3_SYNC_SRC__PATH"),
        ("S3_SYNC_DEST_PATH", "S3_SYNC_DEST__PATH"),
        ("S3_SYNC_TRANSFER_CONFIG__MAXFILES", "S3_SYNC_TRANSFER_CONFIG__MAX_FILES"),
        ("S3_SYNC_SRC__SECRET_KEY_FLIE", "S3_SYNC_SRC__SECRET_KEY_FILE"),
        ("S3_SYNC_src__path", "S3_SYNC_SRC__PATH"),
        ("S3_SYNC_LOCAL_UPLOAD_COMPLET", "S3_SYNC_LOCAL_UPLOAD_COMPLETE"),
        ("S3_SYNC_COS_BUCKETS", "S3_SYNC_COS_BUCKET"),
    ],
)
def test_a_typo_is_refused_with_the_nearest_name(name: str, nearest: str) -> None:
    assert problems({**SOURCE, name: "x"}) == (f"{name} is no known variable; did you mean {nearest}?",)


def test_an_unknown_name_is_printed_harmlessly() -> None:
    [problem] = problems({**SOURCE, "S3_SYNC_\x1b[31m\udcff": "x"})
    assert "\x1b" not in problem
    assert "\udcff" not in problem


def test_what_a_service_injects_is_no_typo() -> None:
    injected = {"S3_SYNC_SERVICE_HOST": "10.0.0.1", "S3_SYNC_SERVICE_PORT_HTTP": "80", "S3_SYNC_PORT_80_TCP": "tcp://x"}
    assert load({**SOURCE, **injected, "S3_SYNC_PORT": "tcp://10.0.0.1:80"}).source is not None


def test_every_name_of_the_contract_is_known_also_as_a_file() -> None:
    # None of them may be called a typo, whatever else is wrong with it.
    ours = [name for name in known_names() if name.startswith("S3_SYNC_")]
    found = problems({f"{name}_FILE": "/no/such/file" for name in ours} | {"S3_SYNC_SRC__PATH": "/mnt/x"})
    assert not [problem for problem in found if "no known variable" in problem]


def test_all_problems_at_once_in_one_line() -> None:
    environ = {
        "S3_SYNC_SRC__ENDPIONT": "x",
        "S3_SYNC_SRC__PATH": "bucket/folder",
        "S3_SYNC_DEST__PATH": "ftp://x",
        "S3_SYNC_DEADLINE": "soon",
        "S3_SYNC_TRANSFER_CONFIG__CHUNK_SIZE": "big",
        "S3_SYNC_TRANSFER_CONFIG__MAX_FILES": "none",
        "AWS_CA_BUNDLE": "/no/such/bundle.pem",
    }
    with pytest.raises(ConfigurationError) as caught:
        load(environ)
    error = caught.value
    assert error.exit_code == 78
    assert {problem.split(" ")[0] for problem in error.problems} == set(environ)
    assert error.message.startswith("7 problems: ")
    assert error.message.endswith("and 2 more")
    assert "\n" not in error.message
    assert "docs/settings.md" in error.hint


def test_a_flag_is_called_by_its_own_name() -> None:
    found = problems(SOURCE, CommandLine(chunk_size="big", max_files=0, destination="models"))
    assert [problem.split(" ")[0] for problem in found] == ["--chunk-size", "--max-files", "DEST"]


def test_the_command_line_says_everything_that_it_may() -> None:
    said = CommandLine(
        source="s3://from/here/",
        destination="s3://to/there",
        src_endpoint="one.example",
        dest_endpoint="http://two.example",
        src_region="r1",
        dest_region="r2",
        src_validate=False,
        dest_validate=True,
        max_threads_per_file=3,
        max_files="4",
        chunk_size="15MiB",
        force=True,
    )
    found = load({"S3_SYNC_SRC__PATH": "/other", "S3_SYNC_DEST__VALIDATE_TLS": "false"}, command_line=said)
    assert isinstance(found.source, S3Location)
    assert isinstance(found.destination, S3Location)
    assert (found.source.uri, found.source.endpoint) == ("s3://from/here/", "https://one.example")
    assert (found.destination.uri, found.destination.endpoint) == ("s3://to/there/", "http://two.example")
    assert (found.source.region, found.destination.region) == ("r1", "r2")
    assert (found.source.validate_tls, found.destination.validate_tls) == (False, True)
    assert (found.transfer.max_threads_per_file, found.transfer.max_files) == (3, 4)
    assert (found.transfer.chunk_size, found.transfer.force) == (15 * 2**20, True)


@pytest.mark.parametrize("name", ["S3_SYNC_SRC__SECRET_KEY", "S3_SYNC_SRC__PATH", "AWS_S3_BUCKET", "HF_TOKEN"])
@pytest.mark.parametrize("value", ["can\udcffary", "can\nary", "can\x00ary", "can\x1bary"])
def test_a_broken_value_is_named_and_never_printed(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({**SOURCE, **PAIR, name: value})
    [problem] = caught.value.problems
    assert problem.startswith(f"{name} holds ")
    assert "can" not in problem.removeprefix(name)
    assert caught.value.__cause__ is None


def test_stray_white_space_and_byte_order_marks_go(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\xef\xbb\xbfthe-secret\r\n")
    environ = {"S3_SYNC_SRC__ACCESS_KEY": " the-key\n", "S3_SYNC_SRC__SECRET_KEY_FILE": f"{tmp_path}/secret\n"}
    found = load({**SOURCE, **environ})
    assert secrets(found) == ["the-key", "the-secret"]


NAMES = sorted(known_names())
VALUES = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["true", "s3://b", "s3://b/x/", "s3://b/x", "/mnt", "/mnt/x", "1", "10s", "all", "h:1", "hf://a/b", "false", ""]
    ),
)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60, deadline=None)
@given(st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=12).map("S3_SYNC_".__add__)), VALUES))
def test_any_environment_is_settings_or_one_clear_error(environ: dict[str, str]) -> None:
    problem: ConfigurationError | None = None
    try:
        load(environ)
    except ConfigurationError as error:
        problem = error
    if problem is not None:
        assert problem.problems
        assert "\n" not in problem.message
