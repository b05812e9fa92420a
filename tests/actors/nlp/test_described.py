"""A model's span says who provides it, what it is called, and what it used, as far as that is known."""

from __future__ import annotations

from typing import Any

from laneway.actors.nlp.described import described, usage_of


class Bare:
    """A model that says nothing about itself."""

    def stream(self, run: Any, context: Any) -> Any: ...


class Known(Bare):
    """One that does."""

    provider, name = "openai", "some-model"


def test_names_are_the_models_own_or_its_classs() -> None:
    """Without a name there is no request.model, only a span name."""
    assert described(Known()) == (
        "some-model",
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.stream": True,
            "gen_ai.request.model": "some-model",
        },
    )
    name, attributes = described(Bare())
    assert (name, attributes["gen_ai.provider.name"]) == ("Bare", "custom")
    assert "gen_ai.request.model" not in attributes


def test_usage_is_summed_over_requests() -> None:
    """Rows that say nothing, or something else, are passed over."""
    rows = [{"inputTokens": 3, "outputTokens": 4}, {"inputTokens": 5, "outputTokens": None}, "rubbish"]
    assert usage_of(rows) == {"gen_ai.usage.input_tokens": 8, "gen_ai.usage.output_tokens": 4}
    assert usage_of(None) == usage_of({}) == {}
