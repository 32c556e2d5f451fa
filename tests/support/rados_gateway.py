"""A real S3 server for the ring of real servers: a one-node Ceph cluster with its RADOS Gateway, on loopback.

Debian has all of it (``radosgw ceph-mon ceph-osd ceph-common``), no container and no configuration of the machine is
needed. It is the strictest of the servers that the field runs: over https it refuses the SDK's default checksums, its
ETags are empty where others' are not, and it checks Content-MD5. See Ceph's "Manual deployment" for the steps.

All daemons are children of this process, die with it, and keep what they write in one folder that goes with them.
"""

import contextlib
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import trustme
from botocore.config import Config

from tests.support import daemons
from tests.support.buckets import S3Server
from tests.support.daemons import NotReady

COMMANDS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")

ACCESS_KEY = "syncer-access"
SECRET_KEY = "syncer-secret-key"

# The block file is sparse: this is what the tests may write at most, not what they cost.
BLOCK_BYTES = 10 << 30

_CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
mon allow pool size one = true
osd crush chooseleaf type = 0
osd objectstore = bluestore
bluestore block create = true
bluestore block size = {block_bytes}
bluestore block wal create = false
bluestore block db create = false
osd memory target = 1073741824
keyring = {folder}/keyring
run dir = {folder}/out
admin socket = {folder}/out/$name.asok
log file = {folder}/out/$name.log
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:{http} ssl_endpoint=127.0.0.1:{https} ssl_certificate={folder}/server.pem
rgw dns name = localhost
rgw enable usage log = false
"""

# Who exists in this cluster, and what each may do. The gateway does not start without a cephx key of its own.
_KEYS = (
    ("mon.", ("mon", "allow *")),
    ("client.admin", ("mon", "allow *", "osd", "allow *", "mgr", "allow *")),
    ("osd.0", ("mon", "allow profile osd", "osd", "allow *")),
    ("client.rgw.a", ("mon", "allow rw", "osd", "allow rwx")),
)


@dataclass(frozen=True, kw_only=True)
class RadosGateway:
    """A running gateway. The same buckets are behind both endpoints; the certificate is good for both host names."""

    http_endpoint: str
    https_endpoint: str
    ca_file: Path
    access_key: str = ACCESS_KEY
    secret_key: str = field(default=SECRET_KEY, repr=False)
    region: str = "default"
    _numbers: Iterator[int] = field(default_factory=lambda: count(1), repr=False)

    def new_bucket(self) -> str:
        """Create a bucket that nobody else uses, and return its name. The first one takes two seconds (pools)."""
        name = f"bucket-{next(self._numbers)}"
        with contextlib.closing(self.client()) as client:
            client.create_bucket(Bucket=name)
        return name

    def server(self, *, https: bool = False) -> S3Server:
        """One of the endpoints, as tests of S3 servers know them."""
        endpoint, ca_file = (self.https_endpoint, str(self.ca_file)) if https else (self.http_endpoint, None)
        return S3Server(endpoint, self.access_key, self.secret_key, region=self.region, ca_file=ca_file)

    def client(self, *, https: bool = False, **config: Any) -> Any:
        """Return a stock boto3 client, to arrange and to look at things; `config` goes to botocore's Config.

        It is as patient as a test wants, asks path-style, and has the SDK's default checksums unless told otherwise:
        over https the gateway refuses these.
        """
        ours: dict[str, Any] = {
            "s3": {"addressing_style": "path"},
            "retries": {"total_max_attempts": 2},
            "connect_timeout": 5,
            "read_timeout": 30,
        }
        return boto3.client(
            "s3",
            endpoint_url=self.https_endpoint if https else self.http_endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            verify=str(self.ca_file) if https else None,
            config=Config(**ours, **config),
        )


def missing_commands() -> list[str]:
    """Return those of Ceph's commands that are not on this machine's path."""
    return [command for command in COMMANDS if shutil.which(command) is None]


def running_gateway() -> contextlib.AbstractContextManager[RadosGateway]:
    """Start a gateway (about 15 s), stop it afterwards; `NotReady` with the daemons' last words when it fails twice."""
    return daemons.persistently(_running_gateway)


@contextlib.contextmanager
def _running_gateway() -> Iterator[RadosGateway]:
    # Not pytest's own temporary folder: a path of a socket must be shorter than 108 bytes.
    with tempfile.TemporaryDirectory(prefix="rgw-") as name, contextlib.ExitStack() as running:
        folder = Path(name)
        for sub_folder in ("mon", "osd", "rgw", "out"):
            (folder / sub_folder).mkdir()
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))

        mon_v2, mon_v1, http, https = daemons.free_ports(4)
        fsid = str(uuid.uuid4())
        ports = {"mon_v2": mon_v2, "mon_v1": mon_v1, "http": http, "https": https}
        configuration = _CONFIGURATION.format(folder=folder, fsid=fsid, block_bytes=BLOCK_BYTES, **ports)
        (folder / "ceph.conf").write_text(configuration)

        _start_cluster(folder, fsid, f"[v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}]", running)
        gateway = _start(folder, "radosgw", "-n", "client.rgw.a", running=running)
        _wait(folder, gateway, until=lambda: daemons.answers(f"http://127.0.0.1:{http}/"))
        user = ("--uid=syncer", "--display-name=syncer", f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}")
        _run(folder, "radosgw-admin", "-c", "ceph.conf", "user", "create", *user)
        yield RadosGateway(
            http_endpoint=f"http://127.0.0.1:{http}",
            https_endpoint=f"https://localhost:{https}",
            ca_file=folder / "ca.pem",
        )


def _start_cluster(folder: Path, fsid: str, address: str, running: contextlib.ExitStack) -> None:
    """Make keys, monitor and one object store in the folder, start both and wait until the store is up."""
    for number, (entity, capabilities) in enumerate(_KEYS):
        pairs = zip(capabilities[::2], capabilities[1::2], strict=True)
        granted = [word for service, right in pairs for word in ("--cap", service, right)]
        create = ["--create-keyring"] if number == 0 else []
        _run(folder, "ceph-authtool", "keyring", *create, "--gen-key", "-n", entity, *granted)
    _run(folder, "monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", address, "monmap")
    _run(folder, "ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring", "-c", "ceph.conf")
    _start(folder, "ceph-mon", "-i", "a", running=running)
    store = str(uuid.uuid4())
    _run(folder, "ceph", "-c", "ceph.conf", "--connect-timeout", "60", "osd", "new", store)
    _run(folder, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", store, "-c", "ceph.conf")
    osd = _start(folder, "ceph-osd", "-i", "0", running=running)
    _wait(folder, osd, until=lambda: "1 up" in _run(folder, "ceph", "-c", "ceph.conf", "osd", "stat"))


def _start(folder: Path, *command: str, running: contextlib.ExitStack) -> subprocess.Popen[bytes]:
    """Start a daemon in the foreground. Its output goes to `out/NAME.out`."""
    output = folder / "out" / f"{command[0]}.out"
    return daemons.start([*command, "-c", "ceph.conf", "-f"], output=output, running=running, folder=folder)


def _run(folder: Path, *command: str) -> str:
    """Run a command to its end and return what it printed; `NotReady` with all it said when it fails."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=daemons.START_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as slow:
        raise NotReady(f"{' '.join(command)} did not end in {daemons.START_SECONDS} seconds") from slow
    if done.returncode:
        message = f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        raise NotReady(message)
    return done.stdout


def _wait(folder: Path, daemon: subprocess.Popen[bytes], *, until: Callable[[], bool]) -> None:
    """Return when the daemon is ready; `NotReady` with all last words when it ended or is not ready in time."""
    daemons.wait(daemon, until, outputs=sorted((folder / "out").glob("*.out")))


if __name__ == "__main__":  # for a person who wants to look: python -m tests.support.rados_gateway
    with running_gateway() as here:
        print(f"{here.http_endpoint}  {here.https_endpoint}  AWS_CA_BUNDLE={here.ca_file}")
        print(f"{here.access_key}  {here.secret_key}    (Ctrl-C ends it)", flush=True)
        daemons.pause_until_interrupted()
