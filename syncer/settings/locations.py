"""What the environment means once it is understood: frozen values, secrets masked when printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from syncer.manifest import BY_HAND
from syncer.settings.timetable import Timetable
from syncer.settings.values import DigestChoice


@dataclass(frozen=True)
class S3Location:
    """A folder, or one exact object, in an S3 bucket.

    `prefix` has no leading slash; it is empty for the bucket's root.  As a destination it ends in `/` unless empty; as
    a source it is as the user wrote it, and the store finds out whether it is a folder or one object.  `endpoint` is a
    full URL, or empty for AWS itself.  Absent keys fall back to the SDK's own chain (IRSA, profile), whose environment
    provider is left out when `ambient_keys` is False because `AWS_*` feeds the other end.
    """

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    region: str = ""
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    session_token: SecretStr | None = None
    validate_tls: bool = True
    ambient_keys: bool = True
    scheme: Literal["s3", "cos"] = "s3"

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`, without secrets."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}"

    @property
    def folder(self) -> str:
        """`prefix` as the one of a folder: with a slash at its end, unless empty."""
        return self.prefix if self.prefix.endswith("/") or not self.prefix else f"{self.prefix}/"


@dataclass(frozen=True)
class CosLocation:
    """A folder, or one exact object, in IBM Cloud Object Storage, read with a bearer token of IBM's IAM.

    Exactly one of `passcode` and `api_key` is there; who has HMAC keys is an `S3Location`.  `bucket` has the full
    endpoint and no keys.  `iam_endpoint` is a full URL without a path.  `token_cache` is a file on a memory-backed
    volume for the refresh token.  `plaintext_tokens` allows tokens over http.
    """

    bucket: S3Location
    passcode: SecretStr | None = None
    api_key: SecretStr | None = None
    iam_endpoint: str = "https://iam.cloud.ibm.com"
    token_cache: Path | None = None
    plaintext_tokens: bool = False

    @property
    def uri(self) -> str:
        """`cos://bucket/prefix`, without secrets."""
        return self.bucket.uri

    @property
    def logs_in_once(self) -> bool:
        """Whether a second process could not log in: a passcode is spent by the first."""
        return self.passcode is not None


@dataclass(frozen=True)
class HuggingFaceLocation:
    """A repository of models on the Hugging Face Hub or on a mirror of it.

    `repository` is `owner/name`.  `revision` is a branch, tag or commit, empty for the repository's main branch.
    `allow` and `ignore` are patterns with the Hub's own semantics; both empty mean our default choice.  `endpoint` is a
    full URL without a slash at its end.  `xet` asks for the Hub's own transfer where the destination is a directory.
    """

    repository: str
    revision: str = ""
    allow: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    token: SecretStr | None = None
    endpoint: str = "https://huggingface.co"
    xet: bool = False
    plaintext_tokens: bool = False

    @property
    def uri(self) -> str:
        """`hf://owner/name`, with `@revision` where one was asked for."""
        return f"hf://{self.repository}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class DirectoryLocation:
    """A folder (or, as a source, one file) of a mounted file system; the path is absolute."""

    path: Path

    @property
    def uri(self) -> str:
        """`file:///mnt/models`."""
        return self.path.as_uri()


@dataclass(frozen=True)
class UploadedByHand:
    """The user says that the model already is at the destination."""

    verify: bool = True

    @property
    def uri(self) -> str:
        """A word for logs and marker."""
        return BY_HAND


@dataclass(frozen=True)
class GatheredLocation:
    """Local files and folders that somebody names to upload them: each of `paths` is absolute.

    A folder stands for its content, a file for itself by its name.  `told` is how the user named them, for messages.
    """

    paths: tuple[Path, ...]
    told: str

    @property
    def uri(self) -> str:
        """What the user named."""
        return self.told


@dataclass(frozen=True)
class RegistryLogin:
    """Who we are to an image registry.

    `scope` is a host with its port, or a path below it (`quay.io/org`), as in `auth.json`; the longest that fits wins.
    With `identity_token` (an OAuth refresh token) the password is empty.
    """

    scope: str
    username: str = ""
    password: SecretStr | None = None
    identity_token: SecretStr | None = None


@dataclass(frozen=True)
class ImageLocation:
    """An image in a registry.

    `registry` is `host` or `host:port`, `repository` the path below it in lower case.  A source may be named by
    `digest` (`sha256:…`) instead of `tag`.  `base` is the image that a ModelCar is built upon, None for none.
    With `validate_tls` False a certificate is not checked, and a registry that speaks no TLS is spoken to without;
    then, but for loopback, logins travel only with `plaintext_tokens`.
    """

    registry: str
    repository: str
    tag: str = "latest"
    digest: str = ""
    logins: tuple[RegistryLogin, ...] = ()
    base: ImageLocation | ArchiveLocation | None = None
    validate_tls: bool = True
    plaintext_tokens: bool = False

    @property
    def uri(self) -> str:
        """`oci://registry/repository:tag`, or `@sha256:…` where a digest was asked for."""
        return f"oci://{self.registry}/{self.repository}" + (f"@{self.digest}" if self.digest else f":{self.tag}")


@dataclass(frozen=True)
class ArchiveLocation:
    """An image in a file, as `skopeo copy … oci-archive:` reads and writes it; the path is absolute."""

    path: Path
    base: ImageLocation | ArchiveLocation | None = None

    @property
    def uri(self) -> str:
        """`oci-archive:/mnt/model.tar`."""
        return f"oci-archive:{self.path}"


SourceLocation = (
    S3Location
    | CosLocation
    | HuggingFaceLocation
    | DirectoryLocation
    | UploadedByHand
    | GatheredLocation
    | ImageLocation
    | ArchiveLocation
)
DestinationLocation = S3Location | DirectoryLocation | ImageLocation | ArchiveLocation


Algorithm = Literal["gptq", "rtn", "calibrated"]
"""How weights get their new values: GPTQ with samples, rounded to the nearest, or rounded with measured activations."""


@dataclass(frozen=True)
class HubDataset:
    """A data set of the Hugging Face Hub or a mirror of it, by its name there."""

    name: str
    endpoint: str = "https://huggingface.co"
    token: SecretStr | None = None


@dataclass(frozen=True)
class Compression:
    """How a model is compressed on its way.

    `scheme` is llmcompressor's name of it (`W4A16`, `FP8_DYNAMIC`), `bits` what a weight has then.  `group_size` is in
    weights, -1 for one scale per row, 0 where the scheme has its own.  `dataset` is a path or on the Hub, None where no
    data is needed; `sequence_length` in tokens, `samples` how many of them calibrate.  `ignore` are layers to leave.
    `scratch` is where original and result lie meanwhile.
    """

    scheme: str = "W4A16"
    algorithm: Algorithm = "gptq"
    bits: int = 4
    group_size: int = 128
    dataset: Path | HubDataset | None = None
    sequence_length: int = 2048
    samples: int = 512
    ignore: tuple[str, ...] = ("lm_head",)
    scratch: Path | None = None


@dataclass(frozen=True)
class RegistryLocation:
    """A Model Registry and what a model is called there.

    `endpoint` is a full URL without a slash at its end and without the path of the API.  The token is `token`, else the
    content of `token_file`, read anew for each request (a ServiceAccount's token is exchanged while a pod runs); both
    None means that there is none, or that it must not travel to this endpoint.  `claim` is a directory destination as
    the cluster knows it: the name of a PersistentVolumeClaim and the path in it; empty where nobody has said.
    """

    endpoint: str
    model: str
    version: str
    token: SecretStr | None = None
    token_file: Path | None = None
    author: str = ""
    storage_key: str = ""
    claim: str = ""


@dataclass(frozen=True)
class Network:
    """How to reach anybody: extra certificate authorities (joined with the system's) and proxies.

    `proxies` maps `http` and `https` to a proxy URL; `no_proxy` is the raw comma-separated list.
    """

    ca_files: tuple[Path, ...] = ()
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)  # a proxy's URL may hold its password
    no_proxy: str = ""


@dataclass(frozen=True)
class Transfer:
    """The knobs of the engine; None means that it chooses by itself.  Sizes in bytes.

    `chunk_size` is the part size of the contract's legacy name.  `max_files` caps the files under way at once and
    `max_threads_per_file` the parts under way of one file.  `bandwidth` is in bytes a second, by the time of day.
    """

    chunk_size: int | None = None
    max_files: int | None = None
    max_threads_per_file: int | None = None
    memory: int | None = None
    bandwidth: Timetable | None = None
    digest: DigestChoice = "sha256"
    force: bool = False


@dataclass(frozen=True)
class Share:
    """Which of the `count` pods of an Indexed Job this one is, from 0."""

    index: int
    count: int


@dataclass(frozen=True)
class Reporting:
    """Where results go: only places that exist are written to.  `progress_interval` in seconds.

    Metrics are served on `metrics_port`; None serves none.
    """

    termination_message: Path = Path("/dev/termination-log")
    results: Path = Path("/tekton/results")
    workspace: Path | None = None
    progress_interval: float = 10.0
    metrics_port: int | None = None


@dataclass(frozen=True)
class Settings:
    """Everything a run was told.

    `destination` is the first of the `destinations`, `further` are those beside it.  `skip` holds stages (`download`,
    `compress`, `upload`, `register`), whatever alias the user named them by, and the names of pipeline tasks that stand
    for one destination alone.  `stage` is the one that this run is of a pipeline, empty where it is all of them.
    `share` is this pod's, where several share the work.
    `notes` are remarks for the first log lines, such as which destination form won.
    `origins` says for each variable that was set where its value came from, and `every_secret` holds all secrets that
    were found, also those that this run does not need.
    """

    source: SourceLocation | None
    destination: DestinationLocation | None
    further: tuple[DestinationLocation, ...] = ()
    network: Network = field(default_factory=Network)
    transfer: Transfer = field(default_factory=Transfer)
    reporting: Reporting = field(default_factory=Reporting)
    delete: Literal["off", "recorded", "all"] = "off"
    share: Share | None = None
    deadline: float | None = None
    wait_for_destination: float = 600.0
    skip: frozenset[str] = frozenset()
    stage: str = ""
    model_name: str = ""
    model_version: str = ""
    registry: RegistryLocation | None = None
    compression: Compression | None = None
    notes: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    every_secret: tuple[SecretStr, ...] = field(default=(), repr=False)

    @property
    def destinations(self) -> tuple[DestinationLocation, ...]:
        """All destinations, the first one first; empty when there is none."""
        return () if self.destination is None else (self.destination, *self.further)

    @property
    def digest(self) -> DigestChoice:
        """What proves the bytes of this run: images keep the SHA-256 of every file, whatever was asked for."""
        images = any(isinstance(each, ImageLocation | ArchiveLocation) for each in self.destinations)
        return "sha256" if images else self.transfer.digest
