"""Where things are."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ENTRYPOINT = REPOSITORY / "entrypoint.py"
TEMPLATES = REPOSITORY / "job-templates"
LEFT = REPOSITORY / "demo"
PUBLISHED, CLUSTER = "published-models", "demo-64d3c912"
PREFIX, SIBLING = "trained/all-minilm-l6-v2/", "trained/all-minilm-l6-v2-old/model.safetensors"
SEAL, MANIFEST = ".syncer/complete.json", ".syncer/manifest.json"
