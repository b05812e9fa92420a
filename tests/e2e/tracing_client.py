"""A client with tracing of its own, in a process of its own.

    python -m tests.e2e.tracing_client TARGET OTLP SESSION TEXT

Asks once below a span `ask` of its own, reads the answer, and exports what it recorded. Prints one JSON
line: {"pid", "trace", "text"}.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from opentelemetry import trace

from laneway.engine.client import Client
from tests.engine.testing.exporting import tracing


async def _ask(target: str, session: str, text: str, tracer: trace.Tracer) -> str:
    answer = ""
    async with asyncio.timeout(60), Client(target, session=session) as client:
        with tracer.start_as_current_span("send", kind=trace.SpanKind.PRODUCER) as span:
            span.set_attributes({"messaging.system": "laneway", "laneway.kind": "USER_MESSAGE"})
            own = span.get_span_context()
            parent = f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"
            await client.send_event("USER_MESSAGE", text.encode(), run=f"{session}-1", trace=parent)
        async for event in client:
            answer += event.text
            if event.ends_run:
                break
    return answer


def main() -> None:
    target, otlp, session, text = sys.argv[1:]
    with tracing(otlp, "shop", os.getpid()) as tracer:
        answer = asyncio.run(_ask(target, session, text, tracer))
    print(json.dumps({"pid": os.getpid(), "text": answer}))


if __name__ == "__main__":
    main()
