"""What a model's span says about it: who provides it, what it is called, what it used.

Law of this file: names are OpenTelemetry's for generative AI (`gen_ai.*`), as literals: they live in a
repository of their own and still move. A model that says nothing about itself gets its class's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from laneway.actors.ports import Model
from laneway.actors.spans import SpanValue

__all__ = ["described", "usage_of"]

_NAME_CHARS: Final = 128


def described(model: Model) -> tuple[str, dict[str, SpanValue]]:
    """Return a model's name and its span's attributes.

    A model may have `provider` and `name`, both str; an empty name means that only the provider knows it.
    """
    provider = str(getattr(model, "provider", "") or "custom")
    name = str(getattr(model, "name", "") or "")[:_NAME_CHARS]
    attributes: dict[str, SpanValue] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.stream": True,
    }
    if name:
        attributes["gen_ai.request.model"] = name
    return name or type(model).__name__, attributes


def usage_of(usage: object) -> dict[str, SpanValue]:
    """Return the tokens of a run's usage rows (AG-UI TokenUsage, one per request), summed; empty if untold."""
    rows = [row for row in usage if isinstance(row, Mapping)] if isinstance(usage, list) else []
    found: dict[str, SpanValue] = {}
    for name, key in (("input", "inputTokens"), ("output", "outputTokens")):
        told: list[Any] = [row[key] for row in rows if isinstance(row.get(key), int)]
        if told:
            found[f"gen_ai.usage.{name}_tokens"] = sum(told)
    return found
