"""A real redis-server on loopback, in a directory of its own.

Law of this file: it listens on a port that is its own also while it is down, is ended by its own process id, and
keeps its files, so that a test may kill it and start it again on them. Nothing here waits by the clock: it says when
it is ready.
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
from tests.ports import held_port

__all__ = ["DURABLE", "RedisServer", "redis_server"]

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
_READY_S = 60.0
_READY = b"Ready to accept connections"


class RedisServer:
    """One server.

    Args:
        directory: its files. port: where it listens, held by who gives it. options: its settings, as on the
            command line. tls: listen with TLS alone.

    Attributes:
        url: what a store is opened with.
    """

    def __init__(self, directory: Path, port: int, *options: str, tls: bool = False) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self._ports = ("--port", "0", "--tls-port") if tls else ("--port",)
        self.options = options
        self.port = port
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
        """Start it and return once it takes connections."""
        self._process = subprocess.Popen(
            [
                self._program, "--bind", "127.0.0.1", *self._ports, str(self.port), "--dir", str(self.directory),
                "--save", "", "--logfile", "", *self.options,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        said = self._said_until_ready(self._process)
        if _READY not in said:
            self.kill()
            raise AssertionError(said.decode())

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
    with held_port() as port:
        server = RedisServer(directory, port, *(options or DURABLE), tls=tls)
        try:
            server.start()
            yield server
        finally:
            server.kill()
