"""A client with tracing of its own, in a process of its own.

    python -m tests.e2e.tracing_client TARGET OTLP SESSION TEXT

Asks once, reads the answer, and exports what it recorded. Prints one JSON line: {"pid", "text"}.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from opentelemetry.sdk.trace import TracerProvider

from laneway.engine.client import Client
from tests.engine.testing.exporting import providing


async def _ask(target: str, session: str, text: str, provider: TracerProvider) -> str:
    answer = ""
    async with asyncio.timeout(60), Client(target, session=session, tracer_provider=provider) as client:
        await client.send(text)
        async for event in client:
            answer += event.text
            if event.ends_run:
                break
    return answer


def main() -> None:
    target, otlp, session, text = sys.argv[1:]
    with providing(otlp, "shop", os.getpid()) as provider:
        answer = asyncio.run(_ask(target, session, text, provider))
    print(json.dumps({"pid": os.getpid(), "text": answer}))


if __name__ == "__main__":
    main()
