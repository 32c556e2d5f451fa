"""How a variable of the environment is defined: a field with its name, its section of the documentation, its words."""

from __future__ import annotations

from typing import Any

from pydantic import Field


def variable(name: str, default: Any, section: str, description: str) -> Any:
    """A field of the one definition: what the parser, the documentation and the search for typos know of a variable."""
    return Field(default=default, alias=name, description=description, json_schema_extra={"section": section})
