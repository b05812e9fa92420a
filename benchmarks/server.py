"""`python -m benchmarks.server ROLE`: the other process of a row.

Law of this file: every role runs as `laneway serve` does (uvloop where there is one, the heap frozen
once it is up), prints "ready ADDRESS", and ends with its standard input. Another loop or garbage
collection for laneway than for its peers would decide the comparison.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final

from laneway.engine.runtime.loop import loop_factory

__all__ = ["ROLES", "main"]

Role = Callable[..., AbstractAsyncContextManager[str]]

ROLES: Final[Mapping[str, str]] = {
    "catalogue": "benchmarks.catalogue_served",
    "engine": "benchmarks.remote_engine",
    "grpc": "benchmarks.raw_grpc",
    "hosts": "benchmarks.hosts",
    "nats": "benchmarks.nats_bus",
    "overload": "benchmarks.overload_served",
    "soak": "benchmarks.soak_served",
    "spans": "benchmarks.span_sink",
    "traced": "benchmarks.traced_engine",
    "upstream": "benchmarks.upstream",
}
"""Role -> module with `serving(*arguments)`, which yields where it listens."""


def main() -> None:
    role, *arguments = sys.argv[1:]
    factory = loop_factory()  # before gRPC is imported
    serving: Role = importlib.import_module(ROLES[role]).serving
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_run(serving, arguments))


async def _run(serving: Role, arguments: list[str]) -> None:
    async with serving(*arguments) as address:
        gc.collect()
        gc.freeze()
        print(f"ready {address}", flush=True)
        await asyncio.to_thread(sys.stdin.buffer.read)


if __name__ == "__main__":
    main()
