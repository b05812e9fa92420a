"""An engine in a process of its own that traces a share of its events.

Law of this file: W1's handlers and limits; only the telemetry section differs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.paths import add_pools
from benchmarks.workload import KINDS, open_config
from laneway import Config, Engine
from laneway.engine.sections import TelemetryConfig

__all__ = ["serving", "traced_config"]


def traced_config(url: str, ratio: float) -> Config:
    """Return W1's settings that export to `url`, with no limit of traces per second; tracing off if it is empty."""
    telemetry = TelemetryConfig(otlp=url, sample_ratio=ratio, traces_per_s=1_000_000)
    return open_config().model_copy(update={"telemetry": telemetry})


@asynccontextmanager
async def serving(ratio: str, url: str = "") -> AsyncIterator[str]:
    """The engine's process."""
    async with Engine(traced_config(url, float(ratio)), kinds=KINDS) as engine:
        add_pools(engine)
        edge = await engine.serve_grpc(port=0)
        yield f"127.0.0.1:{edge.port}"
