"""A real `laneway serve` in a process of its own, and what is left in its store afterwards."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import msgpack

from laneway.actors.sessions.intake import INBOUND
from laneway.actors.sessions.session import session_key
from laneway.engine.app.choices import choose_store
from laneway.engine.codec import unpack_envelope
from laneway.engine.config import Config
from laneway.routing.classify import KindTable
from laneway.routing.envelope import Envelope

COMMAND = (sys.executable, "-c", "from laneway.engine.cli import main; main()")
ANY_PORTS = ("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")
_READY = re.compile(r"laneway ready grpc=(\S+) http=(\S+)\n\Z")
_READY_S = 150.0
_EXIT_S = 150.0
"""Bounds; nothing is asserted about how long it took."""


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without settings of the person who runs the tests, nor what Ray leaves in this process's."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("LANEWAY_", "RAY_"))} | more


def listening(line: str) -> tuple[str, str]:
    """Return where gRPC and HTTP listen, from the ready line; empty texts if it is none."""
    match = _READY.match(line)
    return ("", "") if match is None else (match[1], match[2])


class Server:
    """A running server.

    Attributes:
        target: where its gRPC edge listens. http: where its HTTP edge listens, as HOST:PORT.
        errors: what it said on stderr, once it has ended.
    """

    def __init__(
        self,
        store: str | Path,
        *options: str,
        model: str = "synthetic",
        cwd: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._arguments = ("serve", *ANY_PORTS, "--store", str(store), "--model", model, *options)
        self._cwd = cwd
        self._settings = settings or {}
        self._process: asyncio.subprocess.Process | None = None
        self.target = self.http = ""
        self.errors = ""

    async def __aenter__(self) -> Server:
        self._process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *self._arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=clean_environment(**self._settings),
            cwd=self._cwd,
        )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(_READY_S):
                line = (await self._process.stdout.readline()).decode()
            self.target, self.http = listening(line)
            assert self.target, await self._rest()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self._rest()

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    @property
    def port(self) -> int:
        return int(self.target.rpartition(":")[2])

    @property
    def rss_bytes(self) -> int:
        """Memory of the process, from /proc."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) * 1024

    async def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        await self._rest()

    async def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Signal it and wait; returns its exit code and the seconds it took."""
        begun = time.monotonic()
        self.process.send_signal(number)
        await self._rest()
        assert self.process.returncode is not None
        return self.process.returncode, time.monotonic() - begun

    async def _rest(self) -> str:
        async with asyncio.timeout(_EXIT_S):
            _, errors = await self.process.communicate()
        self.errors = errors.decode()
        return self.errors


async def logged(where: str | Path, session: str) -> tuple[list[Envelope], list[Envelope]]:
    """Return (accepted events, numbered events of both streams) of one session, out of the store."""
    kinds = KindTable()
    store = choose_store(Config(), where)
    await store.open()
    try:
        streams: list[list[bytes]] = []
        for stream in (INBOUND, 0, 1):
            blobs: list[bytes] = []
            while page := await store.read(session_key("default", session), stream, len(blobs) + 1):
                blobs += [entry.blob for entry in page]
            streams.append(blobs)
    finally:
        await store.close()
    records = [msgpack.unpackb(blob[1:]) for blob in streams[0] if blob[:1] == b"A"]
    accepted = [unpack_envelope(packed, 0.0, kinds) for record in records for packed in record]
    return accepted, [unpack_envelope(blob, 0.0, kinds) for blob in streams[1] + streams[2]]
