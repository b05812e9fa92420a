"""Programs that a row needs beside this process: started, awaited, ended.

Law of this file: a program says on its first line where it listens, and ends when its standard input
does, so that nothing is left behind whatever happens to the harness.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

__all__ = ["NATS_SERVER", "NotInstalled", "Program", "nats_server", "server"]

NATS_SERVER: Final = "nats-server"
_READY_S: Final = 30.0
_END_S: Final = 10.0
_LISTENS: Final = re.compile(rb"Listening for client connections on (\S+)")


class NotInstalled(Exception):
    """A peer is not there; its row is left out, with this reason."""


@dataclass(frozen=True, slots=True)
class Program:
    """A live program: its number, and where it listens."""

    pid: int
    address: str


@asynccontextmanager
async def server(role: str, *arguments: str) -> AsyncIterator[Program]:
    """Run `python -m benchmarks.server ROLE ...`. Raises RuntimeError if it does not come up."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.server",
        role,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("LANEWAY_")},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(_READY_S):
            line = (await process.stdout.readline()).decode().strip()
        if not line.startswith("ready "):
            raise RuntimeError(f"the {role} server did not come up; it said {line!r}")
        yield Program(process.pid, line.removeprefix("ready "))
    finally:
        await _end(process)


@asynccontextmanager
async def nats_server() -> AsyncIterator[Program]:
    """Run a nats-server on a free port. Raises NotInstalled, or RuntimeError if it does not come up."""
    program = shutil.which(NATS_SERVER)
    if program is None:
        raise NotInstalled("nats-server is not installed")
    process = await asyncio.create_subprocess_exec(
        program, "--addr", "127.0.0.1", "--port", "-1", stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(_READY_S):
            address = await _listening(process)
        yield Program(process.pid, address)
    finally:
        await _end(process)


async def _listening(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    async for line in process.stderr:
        if found := _LISTENS.search(line):
            return f"nats://{found[1].decode()}"
    raise RuntimeError("nats-server ended before it listened")


async def _end(process: asyncio.subprocess.Process) -> None:
    """End it by closing its input, or by force."""
    if process.stdin is not None:
        process.stdin.close()
    elif process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(_END_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
