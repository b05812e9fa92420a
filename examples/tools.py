"""A Python function as a tool, and a model that calls it.

The model is a real HTTP server with scripted answers: it asks for the tool, gets the result through
the dispatcher, and speaks of it.

python -m examples.tools
"""

import asyncio

from laneway import Engine
from laneway.engine.models.scripted import ScriptedModel


async def main() -> None:
    async with Engine() as engine:

        @engine.tools.add(effects=False, idempotent=True)
        async def weather(city: str) -> dict[str, str]:
            """Today's weather in a city."""
            return {"city": city, "sky": "sunny"}

        engine.nlp.use(ScriptedModel())
        async with engine.session("s1") as session:
            kinds, text = [], ""
            async for event in session.ask('call weather {"city": "Oslo"}'):
                kinds.append(event.kind)
                text += event.text if event.kind == "TEXT_MESSAGE_CONTENT" else ""
    print(" -> ".join(dict.fromkeys(kinds)))
    print(text)
    assert "TOOL_CALL_RESULT" in kinds
    assert "sunny" in text


asyncio.run(main())
