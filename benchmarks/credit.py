"""What an answer costs that nobody reads: 10 MB from a model server that does not wait, and each policy.

The server is a process of its own; the engine's client asks and reads nothing until the run is over or
stands still. Then it reads, and must get what was promised.

Law of this file: a row whose reader did not get every byte (or, of `close`, a prefix and PAUSED) has no
figure. Bytes held are counted where they are held, not guessed from the process: rings, coalescer and
what waits for the store; for the baseline what its queue holds.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from benchmarks.measure import Options, Row, settle
from benchmarks.process import server
from benchmarks.upstream import PIECE_CHARS, told
from laneway import Engine
from laneway.engine.config import Config, NlpConfig
from laneway.engine.models.completion import Completion
from laneway.engine.models.endpoint import Endpoint
from laneway.engine.models.openai import OpenAIModel

__all__ = ["BASELINE", "POLICIES", "WORKLOAD", "run", "table"]

WORKLOAD: Final = "credit"
BASELINE: Final = "no policy: asyncio.Queue"
POLICIES: Final = ("continue", "close", "pause")
_BYTES: Final = 10_000_000
_QUICK_BYTES: Final = 1_000_000
_LOOK_S: Final = 0.02
_STILL_S: Final = 2.0
"""So long without a new byte, and it is waiting."""
_PATIENCE_S: Final = 120.0


class _Watch:
    """What was held from the asking to the standstill, looked at every 20 ms."""

    def __init__(self, url: str) -> None:
        self.held: list[int] = []
        self.free_s = math.nan
        self._said = -1  # by the server, before
        self._server = Endpoint(url.removesuffix("/v1"))
        self._begun = 0.0

    async def until_still(self, held: Callable[[], int], over: Callable[[], bool]) -> None:
        """Look until the run is over and the slot free, or nothing has moved for two seconds."""
        last, moved = (-1, -1), time.monotonic()
        while time.monotonic() < self._begun + _PATIENCE_S:
            self.held.append(held())
            slots = await self._slots()
            if not slots["active"] and slots["said"] and math.isnan(self.free_s):
                self.free_s = time.monotonic() - self._begun
            if over() and not slots["active"]:
                return
            if (self.held[-1], slots["said"]) != last:
                last, moved = (self.held[-1], slots["said"]), time.monotonic()
            elif time.monotonic() > moved + _STILL_S:
                return
            await asyncio.sleep(_LOOK_S)
        raise RuntimeError("the run neither ended nor stood still")

    async def begin(self) -> None:
        """Before the asking."""
        self._said = (await self._server.get_json("/slots"))["said"]
        self._begun = time.monotonic()

    async def _slots(self) -> dict[str, int]:
        told = await self._server.get_json("/slots")
        return {**told, "said": told["said"] - self._said}

    async def row(self, name: str, text_bytes: int, end: str) -> Row:
        """Return what was seen."""
        said = (await self._slots())["said"]
        at = {f"held_{share}_kib": self.held[(len(self.held) - 1) * share // 100] / 1024 for share in (25, 50, 100)}
        extra = {**at, "peak_kib": max(self.held) / 1024, "pieces": said, "read_bytes": text_bytes, "end": end}
        return Row(WORKLOAD, name, "s until the slot is free", (self.free_s,), self.free_s, math.nan, extra)


def run(options: Options, tell: Callable[[str], None]) -> list[Row]:
    """Measure the baseline and each policy, once each: what is counted does not depend on the machine's load."""
    pieces = (_QUICK_BYTES if options.repeats == 1 else _BYTES) // PIECE_CHARS
    return asyncio.run(_run(pieces, tell))


async def _run(pieces: int, tell: Callable[[str], None]) -> list[Row]:
    stages: list[tuple[str, Callable[[str, int], Awaitable[Row]]]] = [(BASELINE, _queued)]
    stages += [(policy, _by(policy)) for policy in POLICIES]
    rows = []
    async with server("upstream", str(pieces)) as program:
        for name, stage in stages:
            tell(f"credit: {name}")
            settle()
            rows.append(await stage(program.address, pieces))
    return rows


async def _queued(url: str, pieces: int) -> Row:
    """What is written when nothing bounds it: one task reads the server into a queue, another would read that."""
    queue: asyncio.Queue[str] = asyncio.Queue()
    held = [0]

    async def read() -> None:
        request = {"messages": [{"role": "user", "content": "tell"}]}
        async for _, text in OpenAIModel(url).ask(request, Completion()):
            queue.put_nowait(text)
            held[0] += len(text)

    watch = _Watch(url)
    await watch.begin()
    reading = asyncio.create_task(read())
    await watch.until_still(lambda: held[0], reading.done)
    await reading
    watch.held.append(held[0])  # all of it, however long ago the last look was
    text = "".join(queue.get_nowait() for _ in range(queue.qsize()))
    _check(text == told(pieces), BASELINE)
    return await watch.row(BASELINE, len(text), "whole")


def _by(policy: Any) -> Callable[[str, int], Awaitable[Row]]:
    async def stage(url: str, pieces: int) -> Row:
        async with _engine(url, policy) as engine, engine.session("s") as session:
            watch = _Watch(url)
            await watch.begin()
            asked = await session.send("tell")
            home = engine.directory.find("default", "s")
            assert home is not None, "it has just been asked"

            def held() -> int:
                rings = sum(ring.bytes for ring in home.outbound.rings)
                return rings + home.statistics().commit_backlog_bytes

            await watch.until_still(held, lambda: home.statistics().pending == 0)
            text, end = [], ""
            async for event in session:
                if event.run == asked.run and event.kind == "TEXT_MESSAGE_CONTENT":
                    text.append(event.text)
                if event.run == asked.run and event.ends_run:
                    end = str(event.data.get("code", "whole"))
                    break
            said = "".join(text)
            _check(
                said == told(pieces) if end == "whole" else end == "PAUSED" and told(pieces).startswith(said), policy
            )
            return await watch.row(policy, len(said), end)

    return stage


@asynccontextmanager
async def _engine(url: str, policy: Any) -> AsyncIterator[Engine]:
    with tempfile.TemporaryDirectory() as directory:
        config = Config(nlp=NlpConfig(unread=policy))
        async with Engine(config, store=Path(directory) / "log.sqlite") as engine:
            engine.nlp.use(OpenAIModel(url))
            yield engine


def _check(good: bool, row: str) -> None:
    if not good:
        raise RuntimeError(f"{row}: the reader did not get what it was promised")


def table(rows: Sequence[Row]) -> Table:
    """Return the rows as one table."""
    shown = Table(title="Credit: an answer that nobody reads, from a model server that does not wait; then it is read")
    for name in ("", "KiB held at 25 %", "at 50 %", "at the end", "most", "pieces generated", "s until slot is free"):
        shown.add_column(name, justify="right" if name else "left")
    shown.add_column("bytes read then, end")
    for row in rows:
        extra = row.extra
        held = [f"{extra[key]:,.0f}" for key in ("held_25_kib", "held_50_kib", "held_100_kib", "peak_kib")]
        free = "not in 2 s" if math.isnan(row.median) else f"{row.median:.2f}"
        shown.add_row(row.row, *held, f"{extra['pieces']:,}", free, f"{extra['read_bytes']:,}, {extra['end']}")
    return shown
