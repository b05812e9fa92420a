"""Start: how long `import laneway` takes, and when the first event of a fresh process is answered.

Law of this file: fresh processes, one after another; the time counts from the program's first line, so
the interpreter's own start is not in it and the import is. The first event goes to a handler of an
embedded engine and is over when its result has come back to the session.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Final

from benchmarks.measure import Options, Row

__all__ = ["run"]

_IMPORT: Final = """
import time
begun = time.perf_counter()
import laneway
print((time.perf_counter() - begun) * 1e3)
"""
_FIRST_EVENT: Final = """
import time
begun = time.perf_counter()
import asyncio
from laneway import Engine, Out

async def main():
    async with Engine() as engine:
        @engine.pool("first", ["FIRST"])
        async def handle(event, context):
            return Out("CUSTOM", event.body)
        async with engine.session("s") as session:
            await session.send_event("FIRST", b"x")
            assert (await anext(session)).body == b"x"
            print((time.perf_counter() - begun) * 1e3)

asyncio.run(main())
"""
_PROGRAMS: Final = {"import laneway": _IMPORT, "first event, embedded": _FIRST_EVENT}
_TIMEOUT_S: Final = 60.0


def run(options: Options, status: Callable[[str], None]) -> list[Row]:
    """Measure both, after one run of each that fills the file cache and the bytecode. Raises RuntimeError."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="laneway-bench-") as bytecode:
        for row, program in _PROGRAMS.items():
            status(f"start {row}")
            _once(row, program, bytecode)
            took_ms = tuple(_once(row, program, bytecode) for _ in range(options.starts))
            median_ms = statistics.median(took_ms)
            rows.append(Row("start", row, "ms", took_ms, median_ms, float("nan")))
    return rows


def _once(row: str, program: str, bytecode: str) -> float:
    # its own place for bytecode: where this process must not write any, each start would compile everything
    around = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**around, "PYTHONPYCACHEPREFIX": bytecode},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if result.returncode:
        raise RuntimeError(f"start {row} failed: {result.stderr[-500:]}")
    return float(result.stdout)
