"""A model's context."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from laneway.actors.nlp.history import Turn
from laneway.actors.nlp.recorded import Recorded
from laneway.actors.ports import Out


def test_it_is_the_runs_own_and_remembers_its_tool_calls(recording: Callable[..., Any]) -> None:
    """Everything passes through; a call made beside the stream is part of what was said."""

    async def main() -> None:
        own, turn = recording(), Turn([], 1_000)
        context = Recorded(own, turn)
        about = (context.tenant, context.session, context.run, context.deadline, context.trace, context.cancelled)
        assert about == (own.tenant, own.session, own.run, own.deadline, own.trace, own.cancelled)
        context.when_unread("close")
        await context.emit(Out("CUSTOM"))
        result = await context.call_tool("weather", {"of": "Rome"}, "c1")
        assert (own.unread, own.outs, own.calls) == (["close"], [Out("CUSTOM")], [("weather", {"of": "Rome"})])
        assert [message["role"] for message in turn.messages()] == ["assistant", "tool"]
        assert turn.messages()[1]["content"] == result.content

    asyncio.run(main())
