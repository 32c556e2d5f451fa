"""hack/upload.sh: what it asks the container engine for.  That the container then uploads is tests/image."""

import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

SCRIPT = Path(__file__).parents[2] / "hack/upload.sh"
TOOLS = ("bash", "cat", "dirname", "id", "readlink", "sed", "sort", "tar")
ENGINE = """\
#!/bin/sh
case "$1" in
    --version) echo "$FAKE_NAME version 4.3.1" ;;
    info) echo "$FAKE_ROOTLESS" ;;
    image) exit "$FAKE_HAS_IMAGE" ;;
    *)
        printf '%s\\0' "$@" > "$FAKE_RECORD/$1"
        case "$1 $FAKE_NAME" in "build docker") cat > "$FAKE_RECORD/context.tar" ;; esac
        case "$1" in run) exit "$FAKE_CODE" ;; build) exit "$FAKE_BUILD" ;; esac
        ;;
esac
"""


@dataclass
class Ended:
    code: int
    err: str
    asked: dict[str, list[str]]

    @property
    def run(self) -> list[str]:
        return self.asked["run"]

    def options(self, name: str) -> list[str]:
        return [value for option, value in zip(self.run, self.run[1:], strict=False) if option == name]

    @property
    def paths(self) -> list[str]:
        return self.run[self.run.index("--") + 1 :]


@dataclass
class Terminal:
    """A shell in a folder, on a machine that has only what is put there."""

    folder: Path
    here: Path
    environment: dict[str, str] = field(default_factory=dict)

    def engine(self, name: str = "podman", *, calls_itself: str = "") -> None:
        path = self.folder / "tools" / name
        path.write_text(ENGINE)
        path.chmod(0o755)
        self.environment["FAKE_NAME"] = calls_itself or name

    def __call__(self, *arguments: str, script: Path = SCRIPT, **environment: str) -> Ended:
        record = self.folder / "record"
        shutil.rmtree(record, ignore_errors=True)
        record.mkdir()
        clean = {"PATH": str(self.folder / "tools"), "HOME": str(self.folder / "home"), "FAKE_RECORD": str(record)}
        clean |= {"FAKE_ROOTLESS": "false", "FAKE_HAS_IMAGE": "1", "FAKE_CODE": "0", "FAKE_BUILD": "0"}
        clean |= {"LANG": "C.UTF-8"}
        done = subprocess.run(
            [str(self.folder / "tools/bash"), str(script), *arguments],
            cwd=self.here,
            env=clean | self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        asked = {path.name: path.read_text().split("\0")[:-1] for path in record.iterdir() if path.suffix != ".tar"}
        return Ended(done.returncode, done.stdout + done.stderr, asked)


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"no {name} on this machine")
        (tools / name).symlink_to(found)
    here = tmp_path / "my downloads"
    (here / "aligned model").mkdir(parents=True)
    made = Terminal(tmp_path, here)
    made.engine()
    return made


def test_a_folder_with_spaces_is_mounted_read_only_and_named_as_it_was(terminal: Terminal) -> None:
    ended = terminal("aligned model/", "--namespace", "my-ns", "--finish")
    assert ended.code == 0, ended.err
    assert "Building/updating image." in ended.err
    inside = f"/upload{terminal.here}"
    assert ended.options("--mount") == [f"type=bind,source={terminal.here},target={inside},readonly"]
    assert ended.options("--workdir") == [inside]
    assert ended.run[-7:-5] == ["localhost/model-syncer:upload", "upload"]
    assert ended.run[-5:] == ["--namespace", "my-ns", "--finish", "--", "aligned model/"]
    for option in ("--rm", "--read-only"):
        assert option in ended.run
    assert ended.options("--cap-drop") == ["ALL"]
    assert ended.options("--security-opt") == ["no-new-privileges", "label=disable"]
    assert ended.options("--user") == [f"{os.getuid()}:{os.getgid()}"]
    assert "--tty" not in ended.run
    assert "--userns" not in ended.run
    assert ended.asked["build"][-1] == "."


@pytest.mark.parametrize("name", ['a,b "c" d', "ünï côdé", "-dash", "a:b", "$HOME `x` 'y' \\z*"])
def test_odd_names_of_folders_are_no_syntax(terminal: Terminal, name: str) -> None:
    terminal.here = terminal.folder / name
    (terminal.here / name).mkdir(parents=True)
    ended = terminal("--", name, f"{terminal.here}/{name}/")
    assert ended.code == 0, ended.err
    source = f"source={terminal.here}"
    quoted = '"' + source.replace('"', '""') + '"' if "," in name else source
    assert f"type=bind,{quoted}," in ended.options("--mount")[0]
    assert ended.paths == [name, f"./{name}/"]


def test_absolute_paths_below_are_made_relative_and_others_refused(terminal: Terminal) -> None:
    link = terminal.folder / "link"
    link.symlink_to(terminal.here)
    ended = terminal(f"{terminal.here}/aligned model/", str(terminal.here), f"{terminal.here}/")
    assert ended.paths == ["./aligned model/", ".", "./"]
    terminal.here = link
    assert terminal(f"{link}/aligned model", PWD=str(link)).paths == ["./aligned model"]
    for outside in ("/etc/passwd", str(terminal.folder), f"{terminal.here}x/y"):
        ended = terminal("aligned model/", outside)
        assert (ended.code, ended.asked) == (78, {}), ended.err
        assert f"{outside} does not lie in the current directory or below it" in ended.err
        assert "cd to the folder that holds it" in ended.err


def test_options_keep_their_values(terminal: Terminal) -> None:
    given = ["-n", "a", "--secret=b", "--wait", "1 m", "-vv", "-d", "https://s3", "-f"]
    ended = terminal(*given, "x")
    assert ended.run[ended.run.index("upload") + 1 : ended.run.index("--")] == given
    assert ended.paths == ["x"]
    for arguments in ([], ["--finish"], ["x", "--wait"]):
        assert terminal(*arguments).code == 78
    ended = terminal("--help")
    assert (ended.code, ended.asked) == (0, {})
    assert "upload.sh aligned-model/" in ended.err


def test_kubeconfigs_come_along_with_the_files_that_they_name(terminal: Terminal) -> None:
    (terminal.folder / "home/.kube").mkdir(parents=True)
    default = terminal.folder / "home/.kube/config"
    default.write_text("{}")
    ended = terminal("x")
    assert f"type=bind,source={default},target=/kube/1/config,readonly" in ended.options("--mount")
    assert "KUBECONFIG=/kube/1/config" in ended.options("--env")

    folder = terminal.folder / "my kube"
    (folder / "pki").mkdir(parents=True)
    absolute = terminal.folder / "client.crt"
    for path in (folder / "pki/ca.crt", folder / "client.key", absolute):
        path.touch()
    document = {
        "clusters": [{"name": "c", "cluster": {"certificate-authority": "pki/ca.crt", "server": "https://api"}}],
        "users": [{"name": "u", "user": {"client-certificate": str(absolute), "client-key": "client.key"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c"}}, {"tokenFile": "not there"}],
    }
    (folder / "one").write_text(yaml.safe_dump(document))
    (terminal.here / "two").write_text('certificate-authority: "pki/ca.crt"\n')
    ended = terminal("x", KUBECONFIG=f"{folder}/one::two:{folder}/gone")
    assert set(ended.options("--mount")[1:]) == {
        f"type=bind,source={folder}/one,target=/kube/1/config,readonly",
        f"type=bind,source={folder}/pki/ca.crt,target=/kube/1/pki/ca.crt,readonly",
        f"type=bind,source={folder}/client.key,target=/kube/1/client.key,readonly",
        f"type=bind,source={absolute},target={absolute},readonly",
        f"type=bind,source={terminal.here}/two,target=/kube/2/config,readonly",
    }
    assert f"KUBECONFIG=/kube/1/config:/kube/2/config:{folder}/gone" in ended.options("--env")


def test_the_environment_goes_by_name_and_no_value_is_seen(terminal: Terminal) -> None:
    secrets = {"AWS_SECRET_ACCESS_KEY": "canary-1", "S3_SYNC_DEST__SECRET_KEY": "canary-2", "HTTPS_PROXY": "canary-3"}
    file = terminal.folder / "my key"
    file.touch()
    terminal.environment |= secrets
    ended = terminal(
        "x",
        no_proxy="a b",
        AWS_ACCESS_KEY_ID_FILE=str(file),
        AWS_CA_BUNDLE=str(file),
        AWS_PROFILE="work",
        HF_TOKEN="canary-4",
        XAWS_KEY="canary-5",
    )
    assert set(ended.options("--env")) == {
        *secrets,
        "no_proxy",
        "AWS_ACCESS_KEY_ID_FILE=/files/AWS_ACCESS_KEY_ID_FILE",
        "AWS_CA_BUNDLE=/files/AWS_CA_BUNDLE",
    }
    assert f"type=bind,source={file},target=/files/AWS_CA_BUNDLE,readonly" in ended.options("--mount")
    assert "canary" not in "".join(ended.run) + ended.err


def test_a_user_without_rights_keeps_the_own_uid_in_podman(terminal: Terminal) -> None:
    assert terminal("x", FAKE_ROOTLESS="true").options("--userns") == ["keep-id"]
    # What is called docker and is podman is treated as what it is.
    terminal.engine("docker", calls_itself="podman")
    ended = terminal("x", CONTAINER_ENGINE="docker", FAKE_ROOTLESS="true")
    assert ended.options("--userns") == ["keep-id"]
    assert ended.asked["build"][-1] == "."


def test_docker_is_taken_where_there_is_no_podman(terminal: Terminal) -> None:
    (terminal.folder / "tools/podman").unlink()
    terminal.engine("docker")
    ended = terminal("x", FAKE_ROOTLESS="true")
    assert ended.code == 0, ended.err
    assert "--userns" not in ended.run
    assert ended.asked["build"][-1] == "-"
    with tarfile.open(terminal.folder / "record/context.tar") as context:
        names = context.getnames()
    assert {"Containerfile", "entrypoint.py", "requirements.lock", "syncer/__init__.py"} <= set(names)
    assert not [name for name in names if name.startswith((".git", ".venv", "tests"))]


def test_in_a_rootless_docker_the_user_is_called_root(terminal: Terminal) -> None:
    (terminal.folder / "tools/podman").unlink()
    terminal.engine("docker")
    assert terminal("x", FAKE_ROOTLESS="[name=seccomp,profile=builtin]").options("--user") == [
        f"{os.getuid()}:{os.getgid()}"
    ]
    rootless = "[name=seccomp,profile=builtin name=rootless name=cgroupns]"
    assert terminal("x", FAKE_ROOTLESS=rootless).options("--user") == ["0:0"]


def test_a_search_path_for_folders_leads_nowhere_else(terminal: Terminal) -> None:
    """`CDPATH` makes `cd` print, and prefer a folder of the same name elsewhere."""
    (terminal.here / "hack").symlink_to(SCRIPT.parent)
    (terminal.folder / "elsewhere/hack").mkdir(parents=True)
    ended = terminal("x", script=Path("hack", SCRIPT.name), CDPATH=str(terminal.folder / "elsewhere"))
    assert ended.code == 0, ended.err


def test_an_image_of_ones_own_is_pulled_only_when_it_is_not_there(terminal: Terminal) -> None:
    ended = terminal("x", SYNCER_IMAGE="registry/syncer:1")
    assert ended.asked["pull"] == ["pull", "registry/syncer:1"]
    assert "build" not in ended.asked
    assert ended.run[-4:] == ["registry/syncer:1", "upload", "--", "x"]
    assert "pull" not in terminal("x", SYNCER_IMAGE="registry/syncer:1", FAKE_HAS_IMAGE="0").asked


def test_a_base_and_a_mirror_reach_the_build(terminal: Terminal) -> None:
    built = terminal("x", SYNCER_BASE_IMAGE="base:1", PIP_INDEX_URL="https://canary@mirror").asked["build"]
    assert built[-5:-1] == ["--build-arg", "PIP_INDEX_URL", "--build-arg", "BASE_IMAGE=base:1"]


def test_the_authorities_of_a_mirror_are_there_during_the_build(terminal: Terminal) -> None:
    file = terminal.folder / "our ca.pem"
    file.write_text("-----BEGIN CERTIFICATE-----")
    built = terminal("x", PIP_CERT=str(file)).asked["build"]
    assert built[-5:-1] == ["--build-arg", "PIP_CERT", "--volume", f"{file}:{file}:ro"]


def test_what_is_missing_is_said_in_words(terminal: Terminal) -> None:
    ended = terminal("x", CONTAINER_ENGINE="nerdctl")
    assert (ended.code, ended.asked) == (78, {})
    assert "CONTAINER_ENGINE names nerdctl" in ended.err
    ended = terminal("x", FAKE_BUILD="125")
    assert (ended.code, list(ended.asked)) == (78, ["build"])
    assert "cannot be built" in ended.err
    (terminal.folder / "tools/podman").unlink()
    ended = terminal("x")
    assert (ended.code, ended.asked) == (78, {})
    assert "neither podman nor docker is installed" in ended.err
    assert ".venv/bin/syncer' upload" in ended.err


def test_the_exit_code_is_the_uploads(terminal: Terminal) -> None:
    assert terminal("x", FAKE_CODE="66").code == 66


def test_it_may_be_called_by_a_link(terminal: Terminal) -> None:
    first = terminal.folder / "upload"
    first.symlink_to(SCRIPT)
    second = terminal.folder / "home"
    second.mkdir()
    (second / "up").symlink_to("../upload")
    assert "Containerfile" in terminal("x", script=second / "up").asked["build"]


def test_shellcheck_has_nothing_to_say() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", str(SCRIPT)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
