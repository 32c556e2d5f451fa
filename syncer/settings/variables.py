"""The one definition of every variable that this program reads.

A field's alias is the variable's name; its type says how the text is read, its description what the documentation says.
The parser, the table in `docs/settings.md` and the search for typos all come from here.  Where values come from, and in
which order, is `layers.py`.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from pydantic.fields import FieldInfo

from syncer.settings.compression_variables import SECTION as COMPRESSION
from syncer.settings.compression_variables import CompressionVariables
from syncer.settings.defining import variable
from syncer.settings.engine_variables import ENGINE, PODS, EngineVariables
from syncer.settings.image_variables import IMAGE, ImageVariables
from syncer.settings.values import (
    AbsolutePath,
    Delete,
    Endpoint,
    Flag,
    Form,
    Patterns,
    Seconds,
    Secret,
    SomeSeconds,
    Stage,
    Text,
    Words,
)

SOURCE: Final = "Source"
COS: Final = "Source: IBM Cloud Object Storage"
HUB: Final = "Source: Hugging Face"
DESTINATION: Final = "Destination: explicit"
CONNECTION: Final = "Destination: data connection"
CLAIM: Final = "Destination: ObjectBucketClaim"
PIPELINE: Final = "Destination: ModelCar pipeline"
REGISTRY: Final = "Model Registry"
JOB: Final = "Job"
NETWORK: Final = "Network"
_ORDER: Final = (
    SOURCE, COS, HUB, DESTINATION, CONNECTION, CLAIM, PIPELINE, IMAGE, COMPRESSION, REGISTRY, ENGINE, PODS, JOB,
    NETWORK,
)  # fmt: skip
"""The sections of the documentation, as a reader meets them."""


class Variables(ImageVariables, CompressionVariables, EngineVariables):
    """Every variable, parsed; what is not set has its default."""

    uploaded: Flag = variable(
        "S3_SYNC_LOCAL_UPLOAD_COMPLETE", False, SOURCE, "The model was uploaded by hand; beats every other source"
    )
    uploaded_verify: Flag = variable(
        "S3_SYNC_LOCAL_UPLOAD_VERIFY", True, SOURCE, "Look whether the model that was uploaded by hand is really there"
    )
    src_path: Text = variable(
        "S3_SYNC_SRC__PATH",
        "",
        SOURCE,
        "`s3://bucket/folder/` (`s3a://` too), one exact object, `hf://owner/name[@revision]`, `/mnt/x`, "
        "`file:///mnt/x`, `oci://registry/repository:tag` (or `@sha256:…`) or `oci-archive:/mnt/model.tar`",
    )
    src_endpoint: Text = variable(
        "S3_SYNC_SRC__ENDPOINT", "", SOURCE, "URL of the S3 service, `https://` where none is said; empty for AWS"
    )
    src_access_key: Secret = variable(
        "S3_SYNC_SRC__ACCESS_KEY",
        None,
        SOURCE,
        "Access key (of IBM COS: HMAC); without one an S3 source asks the SDK's own chain (IRSA, profile)",
    )
    src_secret_key: Secret = variable("S3_SYNC_SRC__SECRET_KEY", None, SOURCE, "Secret key")
    src_session_token: Secret = variable("S3_SYNC_SRC__SESSION_TOKEN", None, SOURCE, "Token of temporary keys")
    src_region: Text = variable("S3_SYNC_SRC__REGION", "", SOURCE, "Region")
    src_validate_tls: Flag = variable("S3_SYNC_SRC__VALIDATE_TLS", True, SOURCE, "Check the endpoint's certificate")
    src_folder: AbsolutePath = variable(
        "S3_SYNC_SRC__CREDENTIALS_DIR", None, SOURCE, "Mounted Secret with one file per key"
    )

    cos_chosen: Flag = variable("S3_SYNC_USE_IBMCLOUD_CLI", False, COS, "The source is IBM COS; no CLI is needed")
    cos_bucket: Text = variable("S3_SYNC_COS_BUCKET", "", COS, "Bucket; may be left out where the CRN names it")
    cos_crn: Text = variable(
        "S3_SYNC_COS_INSTANCE_CRN",
        "",
        COS,
        "CRN of the bucket (`crn:v1:…:bucket:NAME`) or of the instance (`crn:v1:…::`); only the bucket's name is used",
    )
    cos_prefix: Text = variable(
        "S3_SYNC_COS_MODEL_PREFIX", "", COS, "Folder in the bucket, or one exact object; empty for the whole bucket"
    )
    cos_region: Text = variable(
        "S3_SYNC_COS_INSTANCE_REGION",
        "",
        COS,
        "The bucket's location, such as `us-geo`, `us-south`, `us-south-smart` or `ams03`",
    )
    cos_endpoint_type: Endpoint = variable(
        "S3_SYNC_COS_ENDPOINT_TYPE",
        "public",
        COS,
        "Network of the region's endpoint: `private` and `direct` (VPC) are reached only from inside IBM Cloud",
    )
    cos_endpoint: Text = variable(
        "S3_SYNC_COS_ENDPOINT",
        "",
        COS,
        "Endpoint instead of region and type, as a URL; `https://` where none is said",
    )
    cos_passcode: Secret = variable(
        "S3_SYNC_COS_TEMPORARY_PASSCODE",
        None,
        COS,
        "One-time passcode and nothing else; works once, and for five minutes after the console showed it",
    )
    cos_api_key: Secret = variable(
        "S3_SYNC_COS_API_KEY", None, COS, "API key of a service ID with the role Content Reader; instead of a passcode"
    )
    cos_iam_endpoint: Text = variable(
        "S3_SYNC_COS_IAM_ENDPOINT",
        "https://iam.cloud.ibm.com",
        COS,
        "URL of IBM's IAM, such as `https://private.iam.cloud.ibm.com`",
    )
    cos_token_cache: AbsolutePath = variable(
        "S3_SYNC_COS_TOKEN_CACHE",
        None,
        COS,
        "File on a memory-backed volume that keeps the refresh token of a passcode, for containers that are restarted",
    )

    hub_model: Text = variable(
        "HUGGINGFACE_MODEL", "", HUB, "Model as `owner/name`, or the URL of its page; chooses this source"
    )
    hub_revision: Text = variable(
        "HUGGINGFACE_REVISION", "", HUB, "Branch, tag or commit; empty for the main branch. All is read from one commit"
    )
    hub_allow: Patterns = variable(
        "HUGGINGFACE_ALLOW_PATTERNS",
        (),
        HUB,
        "Take only files that match one of these, such as `*.json *.safetensors`; separated by spaces or commas, or a "
        "JSON list",
    )
    hub_ignore: Patterns = variable("HUGGINGFACE_IGNORE_PATTERNS", (), HUB, "Leave files that match one, likewise")
    hf_token: Secret = variable("HF_TOKEN", None, HUB, "Access token, for private and gated models")
    huggingface_token: Secret = variable("HUGGINGFACE_TOKEN", None, HUB, "Likewise, where `HF_TOKEN` is not set")
    hub_token: Secret = variable("HUGGING_FACE_HUB_TOKEN", None, HUB, "Likewise, where neither is set: a former name")
    hf_token_path: Text = variable(
        "HF_TOKEN_PATH", "", HUB, "File with the access token; read where none of the three is set"
    )
    hf_endpoint: Text = variable(
        "HF_ENDPOINT", "https://huggingface.co", HUB, "URL of the Hub or of a mirror, `https://` where none is said"
    )
    hf_xet: Flag = variable(
        "S3_SYNC_HF_XET", False, HUB, "Use the Hub's own transfer (xet); only where the destination is a directory"
    )
    hf_offline: Flag = variable(
        "HF_HUB_OFFLINE", False, HUB, "The Hub's own name; where it is true, a model of the Hub is refused as source"
    )
    transformers_offline: Flag = variable(
        "TRANSFORMERS_OFFLINE",
        False,
        HUB,
        "Likewise, where `HF_HUB_OFFLINE` is not set, as the Hub's own client has it",
    )

    dest_path: Text = variable(
        "S3_SYNC_DEST__PATH",
        "",
        DESTINATION,
        "`s3://bucket/prefix/`, `/mnt/models`, `file:///mnt/models`, `oci://registry/repository:tag` or "
        "`oci-archive:/mnt/model.tar`",
    )
    dest_endpoint: Text = variable(
        "S3_SYNC_DEST__ENDPOINT", "", DESTINATION, "URL of the S3 service, `https://` where none is said; empty for AWS"
    )
    dest_access_key: Secret = variable("S3_SYNC_DEST__ACCESS_KEY", None, DESTINATION, "Access key")
    dest_secret_key: Secret = variable("S3_SYNC_DEST__SECRET_KEY", None, DESTINATION, "Secret key")
    dest_session_token: Secret = variable("S3_SYNC_DEST__SESSION_TOKEN", None, DESTINATION, "Token of temporary keys")
    dest_region: Text = variable("S3_SYNC_DEST__REGION", "", DESTINATION, "Region")
    dest_validate_tls: Flag = variable(
        "S3_SYNC_DEST__VALIDATE_TLS",
        True,
        DESTINATION,
        "Check the endpoint's certificate; for every form but `OCI_IMAGE`",
    )
    dest_default_directory: Text = variable(
        "S3_SYNC_DEST__DEFAULT_DIRECTORY",
        "models",
        DESTINATION,
        "Folder in the bucket where a form names only the bucket (`s3://bucket`, data connection, ObjectBucketClaim)",
    )
    dest_folder: AbsolutePath = variable(
        "S3_SYNC_DEST__CREDENTIALS_DIR", None, DESTINATION, "Mounted Secret with one file per key"
    )

    aws_bucket: Text = variable("AWS_S3_BUCKET", "", CONNECTION, "Bucket: chooses this form")
    aws_endpoint: Text = variable("AWS_S3_ENDPOINT", "", CONNECTION, "URL of the S3 service; empty for AWS")
    aws_access_key: Secret = variable(
        "AWS_ACCESS_KEY_ID", None, CONNECTION, "Access key of whichever S3 form is the destination"
    )
    aws_secret_key: Secret = variable("AWS_SECRET_ACCESS_KEY", None, CONNECTION, "Secret key, likewise")
    aws_session_token: Secret = variable("AWS_SESSION_TOKEN", None, CONNECTION, "Token of temporary keys, likewise")
    aws_region: Text = variable("AWS_DEFAULT_REGION", "", CONNECTION, "Region")

    claim_bucket: Text = variable("BUCKET_NAME", "", CLAIM, "Bucket: chooses this form")
    claim_host: Text = variable("BUCKET_HOST", "", CLAIM, "Host of the S3 service")
    claim_port: Text = variable("BUCKET_PORT", "", CLAIM, "Port: 80 means http, every other one https")
    claim_region: Text = variable("BUCKET_REGION", "", CLAIM, "Region")

    pipeline_bucket: Text = variable("S3_BUCKET", "", PIPELINE, "Bucket: chooses this form")
    pipeline_endpoint: Text = variable("S3_ENDPOINT_URL", "", PIPELINE, "URL of the S3 service; empty for AWS")
    model_name: Text = variable(
        "MODEL_NAME",
        "",
        PIPELINE,
        "Model: `model-data/$MODEL_NAME/$MODEL_VERSION/`; needed here and by the Model Registry",
    )
    model_version: Text = variable("MODEL_VERSION", "1.0.0", PIPELINE, "Version of the model")

    registry_url: Text = variable(
        "MODEL_REGISTRY_URL",
        "",
        REGISTRY,
        "URL of the registry's REST service, `https://` where none is said; registers the model as `MODEL_NAME`",
    )
    registry_token: Secret = variable(
        "MODEL_REGISTRY_TOKEN", None, REGISTRY, "Token for the registry; without one that of the pod's ServiceAccount"
    )
    registry_author: Text = variable(
        "MODEL_REGISTRY_AUTHOR", "", REGISTRY, "Author of a version and owner of a model that are new there"
    )
    registry_storage_key: Text = variable(
        "MODEL_REGISTRY_STORAGE_KEY", "", REGISTRY, "Name of the connection Secret by which the model is served"
    )
    registry_claim: Text = variable(
        "MODEL_REGISTRY_CLAIM",
        "",
        REGISTRY,
        "`CLAIM/PATH` of a directory destination, which is registered as `pvc://CLAIM/PATH` then: KServe serves that",
    )

    delete: Delete = variable(
        "S3_SYNC_DELETE",
        "off",
        JOB,
        "`true`: remove what an earlier run recorded and the source no longer has; `all`: mirror the source",
    )
    deadline: SomeSeconds = variable("S3_SYNC_DEADLINE", None, JOB, "How long the run may take, such as `2h`")
    wait_for_destination: Seconds = variable(
        "S3_SYNC_WAIT_FOR_DESTINATION", 600.0, JOB, "Patience with a destination that is not there yet, such as `10m`"
    )
    progress_interval: SomeSeconds = variable(
        "S3_SYNC_PROGRESS_INTERVAL", 10.0, JOB, "Time between two progress lines in a pod"
    )
    workspace: AbsolutePath = variable("S3_SYNC_WORKSPACE", None, JOB, "Folder for the files that pipelines read")
    skip_tasks: Words = variable("SKIP_TASKS", "", JOB, "Stages or pipeline tasks to leave out, separated by commas")
    stage: Stage = variable(
        "S3_SYNC_STAGE",
        "",
        JOB,
        "Stage that this step of a pipeline is; of `SKIP_TASKS` it heeds only what concerns it",
    )
    termination_message: Text = variable(
        "TERMINATION_MESSAGE_PATH", "/dev/termination-log", JOB, "File for the termination message, where it exists"
    )
    results: AbsolutePath = variable(
        "RESULTS_DIR", Path("/tekton/results"), JOB, "Folder for Tekton results, where it exists"
    )

    aws_ca_bundle: AbsolutePath = variable(
        "AWS_CA_BUNDLE", None, NETWORK, "File with certificate authorities, believed in addition"
    )
    ssl_cert_file: AbsolutePath = variable("SSL_CERT_FILE", None, NETWORK, "Another one, likewise")
    plaintext_tokens: Flag = variable(
        "S3_SYNC_ALLOW_PLAINTEXT_TOKENS",
        False,
        NETWORK,
        "Allow tokens and registry logins over `http://`, where everybody on the way can read and use them",
    )
    http_proxy: Secret = variable("HTTP_PROXY", None, NETWORK, "Proxy for http; `http_proxy` too, which wins")
    https_proxy: Secret = variable("HTTPS_PROXY", None, NETWORK, "Proxy for https; `https_proxy` too, which wins")
    sdk_endpoint: Text = variable(
        "AWS_ENDPOINT_URL", "", NETWORK, "The SDK's own name; not used: it would mean source and destination alike"
    )
    no_proxy: Words = variable("NO_PROXY", "", NETWORK, "Hosts without a proxy; `no_proxy` too, which wins")


def parse(layers: Sequence[dict[str, str]]) -> Variables:
    """The variables out of `layers`, the first of which wins; `pydantic.ValidationError` names all that are wrong."""
    return Variables.model_validate(ChainMap(*layers))


@dataclass(frozen=True)
class Definition:
    """What the documentation and the checks know of one variable."""

    name: str
    section: str
    description: str
    form: str
    default: str
    secret: bool


def definitions() -> list[Definition]:
    """Every variable, section by section."""
    return sorted(map(_definition, _fields().values()), key=lambda each: _ORDER.index(each.section))


def known_names() -> frozenset[str]:
    """The names of all variables, without their `_FILE` forms."""
    return frozenset(field.alias or name for name, field in _fields().items())


def secret_fields() -> dict[str, str]:
    """The names of the fields that hold secrets, with the names of their variables."""
    return {name: field.alias or name for name, field in _fields().items() if _form(field) == "secret"}


def _fields() -> dict[str, FieldInfo]:
    return Variables.model_fields


def _form(field: FieldInfo) -> str:
    return next(extra.words for extra in field.metadata if isinstance(extra, Form))


def _definition(field: FieldInfo) -> Definition:
    extra = cast("dict[str, str]", field.json_schema_extra)
    return Definition(
        name=field.alias or "",
        section=extra["section"],
        description=field.description or "",
        form=_form(field),
        default=_printed(field.default, _form(field)),
        secret=_form(field) == "secret",
    )


def _printed(default: Any, form: str) -> str:
    match default:
        case None | "" | ():
            return ""
        case bool():
            return "true" if default else "false"
        case "off":
            return "false"
        case float() if form == "duration":
            return f"{default / 60:g}m" if default >= 60 and default % 60 == 0 else f"{default:g}s"
        case _:
            return str(default)
