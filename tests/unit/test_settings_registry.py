"""The variables of the Model Registry: which address, which token may travel where, what is missing."""

from pathlib import Path

import pytest

from syncer.settings import effective, load, registry, secrets
from tests.support.refused_settings import problems

ENDS = {"S3_SYNC_SRC__PATH": "/mnt/source", "S3_SYNC_DEST__PATH": "/mnt/models"}
NAMED = ENDS | {"MODEL_NAME": "granite"}


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    token = tmp_path / "token"
    token.write_text("of the pod")
    monkeypatch.setattr(registry, "SERVICE_ACCOUNT_TOKEN", token)
    return token


def test_all_that_can_be_said() -> None:
    location = load(
        NAMED
        | {
            "MODEL_REGISTRY_URL": "https://registry.example.com/",
            "MODEL_VERSION": "full-fp16-2511",
            "MODEL_REGISTRY_TOKEN": "canary-token",
            "MODEL_REGISTRY_AUTHOR": "me",
            "MODEL_REGISTRY_STORAGE_KEY": "demo-models",
        }
    ).registry
    assert location is not None
    assert (location.endpoint, location.model, location.version) == (
        "https://registry.example.com",
        "granite",
        "full-fp16-2511",
    )
    assert (location.author, location.storage_key) == ("me", "demo-models")
    assert location.token is not None
    assert "canary" not in repr(location)


def test_no_registry_is_none() -> None:
    assert load(NAMED | {"MODEL_REGISTRY_TOKEN": "t"}).registry is None


@pytest.mark.parametrize(
    "url",
    [
        "registry.example.com",
        "https://registry.example.com/api/model_registry/v1alpha3/",
        "https://registry.example.com/api/model_registry/v1",
        "https://registry.example.com/api/model_registry",
        "https://registry.example.com/api/model_registry/v1alpha3/registered_models",
    ],
)
def test_forms_that_people_write(url: str) -> None:
    location = load(NAMED | {"MODEL_REGISTRY_URL": url}).registry
    assert location is not None
    assert location.endpoint == "https://registry.example.com"


@pytest.mark.parametrize(
    "url",
    [
        "http://mysql.rhoai-model-registries.svc.cluster.local:3306",
        "mysql.rhoai-model-registries.svc:3306",
        "mysql://root:canary@mysql:3306/registry",
        "jdbc:mysql://mysql/registry",
        "MYSQL://mysql",
        "postgres.rhoai-model-registries.svc:5432",
        "postgresql://root:canary@postgres/registry",
    ],
)
def test_the_database_is_called_the_database(url: str) -> None:
    (problem,) = problems(NAMED | {"MODEL_REGISTRY_URL": url})
    kind = "PostgreSQL" if "postgres" in url else "MySQL"
    assert problem.startswith(f"MODEL_REGISTRY_URL is the address of the {kind} database behind the registry")
    assert "canary" not in problem


def test_the_name_is_needed() -> None:
    (problem,) = problems(ENDS | {"MODEL_REGISTRY_URL": "https://registry"})
    assert "MODEL_NAME is missing" in problem


@pytest.mark.parametrize("name", ["MODEL_NAME", "MODEL_VERSION"])
@pytest.mark.parametrize("text", ["x" * 201, "a\u202eb"])
def test_names_that_the_registry_cannot_keep(name: str, text: str) -> None:
    (problem,) = problems(NAMED | {"MODEL_REGISTRY_URL": "https://r", name: text})
    assert problem.startswith(f"{name} must have at most 200 characters, all of them printable")
    assert load(NAMED | {name: text}).registry is None


def test_names_are_taken_as_they_are() -> None:
    location = load(
        NAMED | {"MODEL_REGISTRY_URL": "https://r", "MODEL_NAME": "Größe 3/B", "MODEL_VERSION": "V 1"}
    ).registry
    assert location is not None
    assert (location.model, location.version) == ("Größe 3/B", "V 1")


@pytest.mark.parametrize(
    ("said", "claim"),
    [
        ("model-storage", "model-storage"),
        ("pvc://model-storage/granite/1/", "model-storage/granite/1"),
        ("", ""),
    ],
)
def test_the_claim_behind_a_directory(said: str, claim: str) -> None:
    location = load(NAMED | {"MODEL_REGISTRY_URL": "https://r", "MODEL_REGISTRY_CLAIM": said}).registry
    assert location is not None
    assert location.claim == claim


@pytest.mark.parametrize("said", ["Model_Storage", "/mnt/models", "a/../b", "a//b", "a b"])
def test_what_is_no_claim(said: str) -> None:
    (problem,) = problems(NAMED | {"MODEL_REGISTRY_URL": "https://r", "MODEL_REGISTRY_CLAIM": said})
    assert problem.startswith("MODEL_REGISTRY_CLAIM must be the name of a PersistentVolumeClaim")


@pytest.mark.parametrize("name", ["register", "register-with-registry", " REGISTER "])
def test_what_is_skipped_may_be_wrong(name: str) -> None:
    settings = load(ENDS | {"MODEL_REGISTRY_URL": "mysql://x", "SKIP_TASKS": name})
    assert settings.registry is None
    assert "register" in settings.skip


def test_commands_that_register_nothing_do_not_look() -> None:
    assert load(ENDS | {"MODEL_REGISTRY_URL": "mysql://x"}, registers=False).registry is None


def test_a_token_of_ours_never_travels_in_the_open_unless_that_is_meant() -> None:
    environ = NAMED | {"MODEL_REGISTRY_URL": "http://registry:8080", "MODEL_REGISTRY_TOKEN": "t"}
    (problem,) = problems(environ)
    assert "everybody on the way can read the token" in problem
    settings = load(environ | {"S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true"})
    assert settings.registry is not None
    assert settings.registry.token is not None


def test_the_pods_own_token_is_kept_back_from_http(mounted: Path) -> None:
    environ = NAMED | {"MODEL_REGISTRY_URL": "http://model-registry-service.kubeflow.svc:8080"}
    settings = load(environ)
    assert settings.registry is not None
    assert settings.registry.token_file is None
    assert any("the ServiceAccount's token is not sent there" in note for note in settings.notes)
    allowed = load(environ | {"S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true"}).registry
    assert allowed is not None
    assert allowed.token_file == mounted


def test_the_pods_own_token_goes_to_https_where_no_other_is_given(mounted: Path) -> None:
    environ = NAMED | {"MODEL_REGISTRY_URL": "https://registry"}
    alone = load(environ).registry
    assert alone is not None
    assert (alone.token, alone.token_file) == (None, mounted)
    given = load(environ | {"MODEL_REGISTRY_TOKEN": "mine"}).registry
    assert given is not None
    assert given.token_file is None


def test_a_token_with_more_around_it() -> None:
    (problem,) = problems(NAMED | {"MODEL_REGISTRY_URL": "https://r", "MODEL_REGISTRY_TOKEN": "Bearer canary"})
    assert "must be only the token itself" in problem
    assert "canary" not in problem


def test_no_secret_is_shown() -> None:
    settings = load(NAMED | {"MODEL_REGISTRY_URL": "https://r", "MODEL_REGISTRY_TOKEN": "canary-token"})
    assert "canary" not in f"{effective(settings)} {settings!r}"
    assert effective(settings)["registry"]["token"] == "***"
    assert "canary-token" in secrets(settings)
