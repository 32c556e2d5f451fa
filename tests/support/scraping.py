"""Asks a run for its figures, as Prometheus does."""

import urllib.request

from prometheus_client.parser import text_string_to_metric_families


def scrape(port: int) -> str:
    """What is told on this port of this host."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        return str(answer.read().decode())


def samples(text: str) -> dict[str, float]:
    """The sums over all labels, by the sample's name, and each sample with one label by `name/value`."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
            if len(sample.labels) == 1:
                [label] = sample.labels.values()
                found[f"{sample.name}/{label}"] = sample.value
    return found
