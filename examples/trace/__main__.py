"""One answer that calls a tool, as the tree of its trace: client, server and worker, three processes.

Starts an OTLP receiver and a `laneway serve` that exports to it, asks over gRPC with a trace of its own,
and prints what was exported. The model is a real HTTP server with scripted answers.

python -m examples.trace [--write docs/trace.md]
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from laneway import Client
from laneway.engine.testing.otlp import SpanRecord
from laneway.engine.testing.sink import Sink
from laneway.engine.testing.tree import faults, render, rows, told

ROOT = Path(__file__).parents[2]
WITHIN_S = 60.0
QUESTION = 'call weather {"city": "Oslo"}'
PAGE = """# The trace of one answer

A user asks, the model asks for a tool, the tool runs in a worker process, the model answers. Renew this page
with

    python -m examples.trace --write docs/trace.md

(`make trace` prints the same.) Each line is a span: its name, indented below its parent; its kind; when it
began, after the first; how long it took; the process; what else is worth a look. A step that took long and has
no long step below it is where the time went: here it is `worker`, since the first call of a tool in a new
process imports the tool's module. What each step waits for is told in [operations](operations.md).

```
{tree}
```

One trace id, {spans} spans, {processes} processes. Times are of one run on one machine: read them beside each
other. The second `commit` and the `deliver` are those of the whole answer: they last as long as it does, and say
what was waited for (`laneway.longest_wait_s` for the disk, `laneway.paused_s` for the client).
"""


@asynccontextmanager
async def serving(otlp: str, directory: str) -> AsyncIterator[str]:
    """Run a server in a process of its own; gives its target, and drains it at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from laneway.engine.cli import main; main()", "serve"),
        *(
            "--grpc",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--store",
            f"{directory}/laneway.db",
            "--model",
            "scripted",
        ),
        *("--otlp", otlp, "--setup", "examples.trace.tools:setup", "--log-level", "error"),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(WITHIN_S):
            ready = (await process.stdout.readline()).decode().split()
            yield next(word.removeprefix("grpc=") for word in ready if word.startswith("grpc="))
            process.terminate()
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def ask(target: str, otlp: str) -> str:
    """Ask with tracing on, read the answer to its end."""
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource({"service.name": "client", "process.pid": os.getpid()}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=otlp, insecure=True)))
    answer = ""
    async with Client(target, session="weather", tracer_provider=provider) as client:
        await client.send(QUESTION)
        async for event in client:
            answer += event.text if event.kind == "TEXT_MESSAGE_CONTENT" else ""
            if event.ends_run:
                break
    await asyncio.to_thread(provider.shutdown)
    return answer


async def record() -> list[SpanRecord]:
    """Return the spans of one answer, of all processes."""
    with tempfile.TemporaryDirectory(prefix="laneway-trace-") as directory:
        async with asyncio.timeout(WITHIN_S), Sink() as sink:
            async with serving(sink.url, directory) as target:
                answer = await ask(target, sink.url)
            assert "sunny in Oslo" in answer
            return list(sink.received)  # a drained server has sent everything


def show(spans: list[SpanRecord]) -> None:
    """Print the tree in colours."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title, side in (
        ("span", "left"),
        ("kind", "left"),
        ("begins", "right"),
        ("took", "right"),
        ("process", "left"),
    ):
        table.add_column(title, justify=side, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("attributes", overflow="fold", style="dim")
    for row in rows(spans):
        colour = "red" if row.span.status == "error" else "yellow" if row.span.base == "queue" else ""
        name = Text("  " * row.depth + row.span.name, style=colour)
        times = f"+{row.offset_ms:.1f} ms", f"{row.span.duration_ms:.1f} ms"
        table.add_row(name, row.span.kind, *times, row.process, " ".join(told(row.span)))
    Console(width=None if sys.stdout.isatty() else 150).print(table)


def main() -> int:
    """Record, check, show, and write the page if asked to."""
    parser = argparse.ArgumentParser(prog="make trace", description=__doc__)
    parser.add_argument("--write", type=Path, help="also renew this page")
    arguments = parser.parse_args()
    spans = asyncio.run(record())
    show(spans)
    wrong = faults(spans)
    print("\n".join(wrong) or f"one trace, {len(spans)} spans, every parent there")
    if arguments.write is not None and not wrong:
        processes = len({span.process for span in spans})
        page = PAGE.format(tree=render(spans), spans=len(spans), processes=processes)
        arguments.write.write_text(page, encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
