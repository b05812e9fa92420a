"""The engine with one event in a hundred traced and sent to a real OTLP receiver on this machine.

Law of this file: the receiver is a process of its own that reads what it is given; a run in which it
was sent nothing is no figure. The limit of traces per second is lifted, so that it is 1 % of all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from benchmarks.channels import Opened, Way
from benchmarks.counts import Lost
from benchmarks.measure import Stopwatch
from benchmarks.paths import FRAME_EVENTS, engine_frames
from benchmarks.span_sink import span_sink
from benchmarks.traced_engine import traced_config

__all__ = ["SAMPLED"]

_RATIO: Final = 0.01
_SURE: Final = 10
"""So many traces expected, and none at all has a chance of e^-10."""


@asynccontextmanager
async def _open(watch: Stopwatch) -> AsyncIterator[Opened]:
    async with span_sink() as sink:
        watch.watch("receiver", sink.pid)
        async with engine_frames(SAMPLED.row, traced_config(sink.url, _RATIO)).open(watch) as opened:
            yield opened
            expected = (await opened.counts())["admitted"] * _RATIO
        spans = sum((await sink.received()).traces.values())
        if not spans and expected >= _SURE:
            raise Lost(f"{SAMPLED.row}: the receiver was sent no span")
        watch.note(spans=spans)


SAMPLED: Final = Way("laneway engine, frames, 1 % traced", _open, frame=FRAME_EVENTS)
