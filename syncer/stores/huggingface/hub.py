"""One repository on one Hub, and the way to it: where the token goes and where it does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar
from urllib.parse import quote, urljoin

from syncer import __version__
from syncer.errors import ConfigurationError, SyncerError, Transient
from syncer.redaction import register_secrets
from syncer.retry import SMALL_REQUEST, Patience
from syncer.settings.locations import HuggingFaceLocation, Network
from syncer.stores.huggingface.refusals import Place, Refusal
from syncer.wire import Answer, Origin, Timeouts, Wire

AGENT: Final = f"model-syncer/{__version__}"
_SMALL: Final = 64 * 1024
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_HOPS: Final = 5
_NO_HEAD: Final = frozenset({405, 501})
"""How a mirror says that it does not answer HEAD: the first byte will show then."""
_AS_IT_IS: Final = "%/:=&?~#+!$,;'@()*[]"
"""Signs of a URL that go into a request line as they are: all others are quoted."""
T = TypeVar("T")


class Hub:
    """A repository at an endpoint, for many threads.

    The token goes to the endpoint's own origin and nowhere else, whatever a redirect or a link says.  Raises
    `ConfigurationError` for a token that would travel in plain text.
    """

    def __init__(
        self,
        location: HuggingFaceLocation,
        network: Network,
        *,
        timeouts: Timeouts | None = None,
        patience: Patience = SMALL_REQUEST,
    ) -> None:
        self.endpoint = location.endpoint.rstrip("/")
        try:
            self.origin, _ = Origin.split(self.endpoint)
        except ValueError as error:
            raise ConfigurationError(
                "HF_ENDPOINT is no address of a Hub", hint="HF_ENDPOINT must look like https://huggingface.co"
            ) from error
        self.token = location.token.get_secret_value() if location.token else ""
        if self.token and self.origin.scheme == "http" and not location.plaintext_tokens:
            raise ConfigurationError(
                f"the token would travel to {self.origin} in plain text",
                hint="use https:// in HF_ENDPOINT, or set S3_SYNC_ALLOW_PLAINTEXT_TOKENS=true",
            )
        register_secrets([self.token])
        self.place = Place(
            name=location.uri,
            endpoint=self.endpoint,
            repository=location.repository,
            has_token=bool(self.token),
        )
        self.wire = Wire(
            network,
            store=location.uri,
            hint="check HF_ENDPOINT, the network policies and proxies on the way to it",
            timeouts=timeouts,
        )
        self._patience = patience

    def url_of(self, repository: str, commit: str, path: str) -> str:
        """Where one file of a commit is resolved."""
        # What is no Unicode is no file of theirs either: the Hub says so, and the destination has refused it by name.
        return f"{self.endpoint}/{repository}/resolve/{commit}/{quote(path.encode('utf-8', 'surrogatepass'))}"

    def ask(self, method: str, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Make one request, redirects not followed; the token goes along to the endpoint's origin alone."""
        origin, target = Origin.split(url)
        wanted = {"User-Agent": AGENT, **(headers or {})}
        if self.token and origin == self.origin:
            wanted["Authorization"] = f"Bearer {self.token}"
        return self.wire.ask(method, origin, target, wanted)

    def follow(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        what: str,
        path: str = "",
        each: Callable[[Answer, str], None] = lambda _answer, _url: None,
    ) -> tuple[Answer, str]:
        """GET with a few redirects followed: the first answer that is none, and where it came from.

        `each` looks at every answer on the way and may raise.  A redirect from https to http is not followed.
        """
        for _ in range(_MOST_HOPS + 1):
            answer = self.ask("GET", url, headers)
            try:
                each(answer, url)
            except BaseException:
                answer.close()
                raise
            location = answer.header("Location")
            if answer.status not in _REDIRECTS or not location:
                return answer, url
            let_go(answer)
            url = self._target(url, location, what=what, path=path)
        raise self.nonsense(f"more than {_MOST_HOPS} redirects", what=what, path=path)

    def nonsense(self, why: str, *, what: str, path: str = "") -> Transient:
        """The error for an answer that is none: worth another try, and perhaps no Hub at all."""
        return Transient(
            f"{self.place.name}: cannot {what}: {why}", hint="is HF_ENDPOINT a Hub?", store=self.place.name, path=path
        )

    def _target(self, url: str, location: str, *, what: str, path: str) -> str:
        try:
            target = quote(urljoin(url, location).encode("latin-1"), safe=_AS_IT_IS)
            there, _ = Origin.split(target)
        except ValueError:
            raise self.nonsense("a redirect to nowhere", what=what, path=path) from None  # it may hold a signature
        if there.scheme != "https" and self.origin.scheme == "https":
            raise self.nonsense(f"a redirect from https:// to {there}", what=what, path=path)
        return target

    def error(self, refusal: Refusal, *, what: str, path: str = "") -> SyncerError:
        """The error that a refusal by the Hub means."""
        return refusal.as_error(self.place, what=what, path=path)

    def check_access(self, repository: str, commit: str, path: str) -> None:
        """Raise what reading `path` would raise now, before anything is written anywhere.

        A gated repository shows its tree to everybody and its files to those who have accepted its terms.
        """
        what = f"read {path}"

        def look() -> None:
            with self.ask("HEAD", self.url_of(repository, commit, path)) as answer:
                if answer.status >= 400 and answer.status not in _NO_HEAD:
                    raise self.error(refusal_of(answer), what=what, path=path)

        self.persistently(look)

    def persistently(self, work: Callable[[], T]) -> T:
        """Outlast a passing fault of a few seconds."""
        return self.wire.persistently(work, patience=self._patience)

    def interrupt(self) -> None:
        """Wake every thread that waits for this Hub."""
        self.wire.interrupt()

    def close(self) -> None:
        """Close all connections."""
        self.wire.close()


def refusal_of(answer: Answer) -> Refusal:
    """What an answer's headers say; its body is only words."""
    refusal = Refusal.of(answer.status, {name.lower(): value for name, value in answer.headers.items()})
    let_go(answer)
    return refusal


def let_go(answer: Answer) -> None:
    """End an answer that is of no interest; its connection is kept where that costs little."""
    try:
        if answer.length is not None and answer.length <= _SMALL:
            answer.read()
    except Transient:
        return  # closed already, and nobody wanted the rest
    finally:
        answer.close()
