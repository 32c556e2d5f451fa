"""What the library `huggingface_hub` is asked: which commit a revision is, and what is in it.

It is imported when it is needed, not at start-up: a quarter of a second and 10 MiB.  The Hub hears of our first
question before that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from syncer.claims import is_size
from syncer.errors import ConfigurationError, SyncerError
from syncer.manifest import DigestName, Digests, ModelFile
from syncer.stores.huggingface.carrier import Ahead, library_over
from syncer.stores.huggingface.hub import Hub
from syncer.stores.huggingface.refusals import Refusal

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_SHA1: Final = re.compile(r"[0-9a-f]{40}")
_LONGEST_PATH: Final = 4096
"""Characters: what Linux takes, from whose git repositories these paths come."""
_NAME: Final = re.compile(r"[\w.-]+(?:/[\w.-]+)?", re.ASCII)


@dataclass(frozen=True)
class Commit:
    """One commit of one repository: `repository` is its name of today, `gated` says that files need an agreement."""

    repository: str
    sha: str
    gated: bool


def resolve(hub: Hub, repository: str, revision: str) -> Commit:
    """The commit that a branch, tag or commit name (empty: the main branch) means now.

    The Hub redirects the name that a repository had before; the answer tells the one of today.
    """
    ahead = None
    if _NAME.fullmatch(repository):  # the library has more to say about a name, and says it before it asks
        url = f"{hub.endpoint}/api/models/{repository}"
        ahead = Ahead(hub, f"{url}/revision/{quote(revision, safe='', errors='surrogatepass')}" if revision else url)
    with _asking(hub, f"resolve {revision or 'the main branch'}", ahead) as api:
        info = api.model_info(repository, revision=revision or None)
        name = str(info.id)
        return Commit(
            repository=name if _NAME.fullmatch(name) else repository,
            sha=_hex(_SHA1, info.sha, "the commit"),
            gated=bool(info.gated),
        )


def tree(hub: Hub, commit: Commit) -> list[ModelFile]:
    """All files of a commit, folder by folder and page by page, with the digests that the Hub knows of them."""
    files, seen = [], set()
    with _asking(hub, f"list commit {commit.sha}") as api:
        for entry in api.list_repo_tree(commit.repository, recursive=True, revision=commit.sha):
            path: object = entry.path  # the library says text, and hands on what the answer has
            if not isinstance(path, str) or len(path) > _LONGEST_PATH:
                raise ValueError("no path of an entry")
            if entry.path in seen:  # a mirror that has one page alone would be asked for the next one without end
                raise ValueError(f"{entry.path} is listed twice")
            seen.add(entry.path)
            if hasattr(entry, "blob_id"):
                files.append(_file(entry))
    return files


def _file(entry: Any) -> ModelFile:
    digests: dict[DigestName, str]
    if entry.lfs is not None:
        # Also what is kept in xet.  The size of the pointer that git holds instead is of no interest.
        version = _hex(_SHA256, entry.lfs.sha256, entry.path)
        size, digests = entry.lfs.size, {"sha256": version}
    else:
        version = _hex(_SHA1, entry.blob_id, entry.path)
        size, digests = entry.size, {"git_sha1": version}
    if not is_size(size):
        raise ValueError(f"no size of {entry.path}")
    return ModelFile(path=entry.path, size=size, version=version, digests=Digests.of(digests))


def _hex(pattern: re.Pattern[str], value: object, what: str) -> str:
    if isinstance(value, str) and pattern.fullmatch(value):
        return value
    raise ValueError(f"no digest of {what}")


@contextmanager
def _asking(hub: Hub, what: str, ahead: Ahead | None = None) -> Iterator[HfApi]:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # What is not said here the library would take from HF_* variables and from a file in the home directory.
    api = HfApi(endpoint=hub.endpoint, token=hub.token or False)
    with library_over(hub, ahead):
        try:
            yield api
        except HfHubHTTPError as error:
            raise hub.error(refusal_by_library(error), what=what) from error
        except HFValidationError as error:
            raise ConfigurationError(
                f"{hub.place.name}: {error}", hint="HUGGINGFACE_MODEL must look like owner/name"
            ) from error
        except SyncerError:
            raise
        except Exception as error:  # the library, and the two below it for HTTP, have no class for an odd answer
            # `_hex` above raises here too.
            raise hub.nonsense(f"the answer makes no sense ({type(error).__name__})", what=what) from error


def refusal_by_library(error: Any) -> Refusal:
    """What one of the library's errors says: the Hub's own code, or the one that the error's type stands for."""
    from huggingface_hub import errors

    status = int(error.response.status_code)
    code = ""
    if status != 401:  # a bare 401 counts as a missing repository there; it depends on the token whether it is one
        for kind, meaning in (
            (errors.GatedRepoError, "GatedRepo"),
            (errors.DisabledRepoError, "DisabledRepo"),
            (errors.RepositoryNotFoundError, "RepoNotFound"),
            (errors.RevisionNotFoundError, "RevisionNotFound"),
            (errors.EntryNotFoundError, "EntryNotFound"),
        ):
            if isinstance(error, kind):
                code = meaning
                break
    return Refusal.of(status, {name.lower(): value for name, value in error.response.headers.items()}, code=code)
