"""IBM's IAM, the token service before COS: logins by passcode and by API key, and their renewal in the midst of a run.

In each run COS refuses the first token once, as one that was revoked: so every run logs in and renews.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from syncer import attempts
from syncer.stores.cos import iam as client
from syncer.stores.cos.source import CosSource
from tests.faults.frame import MODEL, READ, Bench, Phase, Row, Store
from tests.faults.hurry import _now
from tests.faults.services import ONE_BY_ONE, ToFolder, proxies_before, refusal, rows_of
from tests.support.buckets import S3Server, running_moto
from tests.support.fake_cos import FakeCos
from tests.support.fake_iam import FakeIam
from tests.support.http_faults import Kind

_POST = r"^POST /identity/token"
_SAID = frozenset[Kind]({"change", "document"})
PHASES = (
    Phase("log in with a passcode", _POST, _SAID),
    Phase("renew after a passcode", _POST, _SAID),
    Phase("log in with an API key", _POST, _SAID),
)
_SECONDS = 180.0
"""How long attempts go on with one login; in earnest for as long as a session of IBM's can live."""


@dataclass
class IamBench(ToFolder):
    iam: FakeIam | None = None
    cos: FakeCos | None = None
    bucket: str = ""
    usual: int = 0

    def anew(self) -> None:
        super().anew()
        assert self.cos is not None
        self.cos.seen.clear()
        revoked = False

        def revoke_first(_method: str, _target: str) -> None:
            nonlocal revoked
            if not revoked:
                revoked = True
                assert self.iam is not None
                self.iam.revoke_access()

        self.cos.before = revoke_first

    def turn_of(self, phase: Phase) -> int:
        return 2 if phase.name.startswith("renew") else 1

    def environment(self) -> Mapping[str, str]:
        assert self.iam is not None
        assert self.cos is not None
        there = self.services[0]
        by = (
            {"S3_SYNC_COS_API_KEY": self.iam.new_api_key()}
            if self.phase.endswith("API key")
            else {"S3_SYNC_COS_TEMPORARY_PASSCODE": self.iam.new_passcode()}
        )
        return (
            ONE_BY_ONE
            | self.to_folder()
            | by
            | {
                "S3_SYNC_COS_BUCKET": self.bucket,
                "S3_SYNC_COS_MODEL_PREFIX": "m",
                "S3_SYNC_COS_ENDPOINT": self.cos.url,
                "S3_SYNC_COS_IAM_ENDPOINT": there.used.endpoint,
                "S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true",
            }
        )

    @contextmanager
    def _disturbed(self, row: Row, phase: Phase, *, for_ever: bool) -> Iterator[None]:
        with super()._disturbed(row, phase, for_ever=for_ever), pytest.MonkeyPatch.context() as patch:
            patch.setitem(vars(attempts.LOGIN_PATIENCE), "seconds", _SECONDS)
            defaults = CosSource.__init__.__kwdefaults__
            assert defaults is not None
            patch.setitem(defaults, "clock", _now)
            yield

    def learn(self) -> None:
        super().learn()
        self.usual = self._reads()

    def cost(self) -> str:
        return READ if self._reads() > self.usual else self.asked()

    def _reads(self) -> int:
        assert self.cos is not None
        return sum("/m/" in seen.target and seen.status < 300 for seen in self.cos.seen)


@contextmanager
def opened(_: pytest.FixtureRequest, folder: Path) -> Iterator[Bench]:
    words = refusal(lambda code: {"errorCode": "BXNIM0000E", "errorMessage": f"{code}, so it says"})
    with ExitStack() as running:
        s3: S3Server = running.enter_context(running_moto())
        bucket = s3.new_bucket("faults")
        s3.fill(bucket, MODEL, prefix="m/")
        iam = running.enter_context(FakeIam())
        cos = running.enter_context(FakeCos(iam, s3.endpoint))
        there = running.enter_context(proxies_before(iam.url, folder, words))
        yield IamBench(folder, (there,), limits=((client, "_PASSCODE_PATIENCE"),), iam=iam, cos=cos, bucket=bucket)


STORES = (
    Store(
        "iam",
        PHASES,
        rows_of(PHASES),
        opened,
    ),
)
