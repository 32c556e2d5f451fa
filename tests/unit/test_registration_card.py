"""The head of a model card and a configuration, as strangers write them."""

import pytest

from syncer.registration.card import Card, read_card

GRANITE = b"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
tags:
- language
- granite-3.3
- language
base_model:
- ibm-granite/granite-3.3-2b-base
language: [en, de]
---

# Granite-3.3-2B-Instruct

<img src="logo.png">

Granite is a 2-billion parameter
language model.

More of it.
"""


def test_a_card_as_the_hub_has_them() -> None:
    assert read_card(GRANITE, b'{"quantization_config": {"quant_method": "compressed-tensors"}}') == Card(
        license="apache-2.0",
        base_model="ibm-granite/granite-3.3-2b-base",
        library="transformers",
        task="text-generation",
        language="en, de",
        tags=("language", "granite-3.3"),
        description="Granite is a 2-billion parameter language model.",
        quantization="compressed-tensors",
    )


def test_a_licence_of_its_own() -> None:
    assert read_card(b"---\nlicense: other\nlicense_name: llama3.3\n---\n").license == "llama3.3"
    assert read_card(b"---\nlicense: other\n---\n").license == "other"


def test_windows_wrote_it() -> None:
    assert read_card(GRANITE.replace(b"\n", b"\r\n")) == read_card(GRANITE)


@pytest.mark.parametrize(
    "readme",
    [
        b"",
        b"---",
        b"---\n[unclosed\n---\n",
        b"---\n- a list\n---\n",
        b"---\nlicense: {nested: 1}\ntags: {a: b}\nbase_model: [[x]]\n---\n",
        b"---\nlicense: " + b"[" * 5000 + b"\n---\n",
        b"---\nlicense: null\ntags: [~, '']\nbase_model: NULL\n---\n",
        b"---\nlicense: &a [*a, *a]\n---\n",
        b"\xff\xfe---\n",
        b"---\nlicense:\n" + b" - mit\n" * 20_000 + b"---\n",
        b"```\nfenced\n\nstill fenced\n```\n",
    ],
)
def test_what_cannot_be_understood_is_empty(readme: bytes) -> None:
    card = read_card(readme, b"{no json")
    assert (card.license, card.tags, card.base_model, card.quantization) == ("", (), "", "")


@pytest.mark.parametrize(
    ("written", "license_"),
    [
        (b"2024-99-99", "2024-99-99"),
        (b"no", "no"),
        (b"!!python/object/apply:os.system [echo]", "echo"),
        (b'"a\\ud800b\\u2028c"', "a b c"),
    ],
)
def test_scalars_are_what_is_written_and_no_tag_is_acted_upon(written: bytes, license_: str) -> None:
    assert read_card(b"---\nlicense: " + written + b"\n---\n").license == license_


def test_norwegian_is_a_language() -> None:
    assert read_card(b"---\nlanguage: [no, en]\n---\n").language == "no, en"


def test_merge_keys_that_multiply_cost_nothing() -> None:
    """Twenty levels of nine are 900 bytes, and for `safe_load` more work than there is time."""
    levels = [f"  a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 9)}]}}" for level in range(1, 20)]
    head = "\n".join(["license:", "  a0: &a0 {x: 1}", *levels, "library_name: transformers"])
    assert read_card(f"---\n{head}\n---\n".encode()).library == "transformers"


def test_benchmarks_in_the_head_cost_nothing() -> None:
    results = b"model-index:\n" + b"- name: x\n  results:\n  - value: 1\n" * 10_000
    card = read_card(b"---\n" + results + b"license: mit\n---\n")
    assert card.license == "mit"


def test_texts_are_bounded() -> None:
    card = read_card(b"---\nlicense: " + b"l" * 9000 + b"\ntags: [" + b"t, " * 900 + b"u]\n---\n" + b"p " * 9000)
    assert len(card.license) == 200
    assert card.tags == ("t", "u")
    assert len(card.description) == 600


@pytest.mark.parametrize("config", [b"[]", b"{}", b'{"quantization_config": null}', b"[" * 100_000])
def test_no_quantization(config: bytes) -> None:
    assert read_card(b"", config).quantization == ""


def test_a_quantization_without_a_name() -> None:
    assert read_card(b"", b'{"quantization_config": {}}').quantization == "unknown"
