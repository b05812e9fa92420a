"""A real redis-server on loopback, in a directory of its own.

Law of this file: it listens on a free port, is ended by its own process id, and keeps its files, so that a
test may kill it and start it again on them. Nothing here waits by the clock: it says when it is ready.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.outside import require

__all__ = ["DURABLE", "RedisServer", "redis_server"]

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
_READY_S = 20.0
_STARTS = 5
_READY = b"Ready to accept connections"


class RedisServer:
    """One server.

    Args:
        directory: its files. options: its settings, as on the command line.
        tls: listen with TLS alone.

    Attributes:
        port: where it listens, the same after a restart.
        url: what a store is opened with.
    """

    def __init__(self, directory: Path, *options: str, tls: bool = False) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self._ports = ("--port", "0", "--tls-port") if tls else ("--port",)
        self.options = options
        self.port = 0
        self._program = require("redis-server", package="redis-server")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and return once it takes connections; on the port it had, or a free one."""
        for _ in range(_STARTS):
            port = self.port or _free_port()
            self._process = subprocess.Popen(
                [
                    self._program, "--bind", "127.0.0.1", *self._ports, str(port), "--dir", str(self.directory),
                    "--save", "", "--logfile", "", *self.options,
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
            said = self._said_until_ready(self._process)
            if _READY in said:
                self.port = port
                return
            self.kill()
            assert b"Address already in use" in said, said.decode()
        raise AssertionError("no free port was found for redis-server")

    def kill(self) -> None:
        """kill -9; its files stay."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def freeze(self, frozen: bool = True) -> None:
        """Let it take connections and bytes and answer nothing, as behind a dead network."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def wipe(self) -> None:
        """Delete the files of a server that does not run."""
        assert self._process is None
        for path in self.directory.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def command(self, *words: str | int | bytes) -> bytes:
        """Send one command on a connection of its own and return the raw reply (small ones only)."""
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(
                b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
            )
            return connection.recv(65_536)

    def says(self, wanted: bytes, *words: str | int | bytes) -> None:
        """Send a command again and again until its reply holds `wanted`."""
        until = time.monotonic() + _READY_S
        while wanted not in (reply := self.command(*words)):
            assert time.monotonic() < until, reply.decode()

    @staticmethod
    def _said_until_ready(process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout is not None
        said, until = b"", time.monotonic() + _READY_S
        while _READY not in said and time.monotonic() < until:
            if select.select([process.stdout], [], [], 1.0)[0]:
                block = os.read(process.stdout.fileno(), 65_536)
                if not block:
                    break
                said += block
        return said


@contextlib.contextmanager
def redis_server(directory: Path, *options: str, tls: bool = False) -> Iterator[RedisServer]:
    """A server that ends with the block; durable unless told otherwise."""
    server = RedisServer(directory, *(options or DURABLE), tls=tls)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
