"""The labelled generator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from laneway.engine.models.synthetic import LABEL, SyntheticModel

Asking = Callable[..., dict[str, Any]]


def _say(model: SyntheticModel, run: dict[str, Any], context: Any) -> str:
    async def main() -> str:
        outs = [out async for out in model.stream(run, context)]
        return b"".join(out.body for out in outs if out.kind == "TEXT_MESSAGE_CONTENT").decode()

    return asyncio.run(main())


def test_it_says_what_it_is_and_repeats_itself(calling: Any, asking: Asking) -> None:
    """Labelled text, the same for the same seed and message, another for another seed."""
    model = SyntheticModel(7, tokens=(5, 9), tokens_per_s=0)
    first = _say(model, asking("hello"), calling())
    assert first.startswith(LABEL)
    assert 5 <= len(first.split()) <= 9
    assert _say(SyntheticModel(7, tokens=(5, 9), tokens_per_s=0), asking("hello"), calling()) == first
    assert first == "".join(model.words("s1", "hello"))
    assert _say(SyntheticModel(8, tokens=(5, 9), tokens_per_s=0), asking("hello"), calling()) != first


def test_it_calls_a_tool_when_told(calling: Any, asking: Asking) -> None:
    """`call NAME {json}` goes through the context, and the result is spoken."""
    context = calling({"double": lambda x: 2 * x}, x="integer")
    assert (
        _say(SyntheticModel(tokens_per_s=0), asking('call double {"x": 21}'), context) == f"{LABEL} double returned 42"
    )
    assert context.calls[0][:2] == ("double", {"x": 21})
    assert "TOOL_UNKNOWN" in _say(SyntheticModel(tokens_per_s=0), asking("call nothing"), context)


def test_the_pace_is_kept(calling: Any, asking: Asking) -> None:
    """Tokens are not given before their time on the loop's clock."""

    async def main() -> None:
        model = SyntheticModel(tokens=(5, 5), tokens_per_s=200)
        loop = asyncio.get_running_loop()
        start, seen = loop.time(), 0
        async for out in model.stream(asking("x"), calling()):
            if out.kind == "TEXT_MESSAGE_CONTENT":
                assert loop.time() >= start + seen / 200 - 0.001
                seen += 1
        assert seen == 5

    asyncio.run(main())
