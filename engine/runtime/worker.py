"""One worker process: its start, its pipes, its end.

Law of this file: a worker is killed before anything about it is concluded, and its directory is
removed only after it is gone. Whoever starts one calls `kill` and `reap`, in that order, exactly once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from laneway.routing.errors import RuntimeUnavailable, ToolCrashed, ToolDenied, ToolError, ToolTimeout

__all__ = ["Measured", "Worker", "WorkerLimits"]

Measured: TypeAlias = Callable[[float, float, int], None]
"""Told when a traced call began and ended inside the worker (monotonic seconds), and in which process."""

_LAUNCHER: Final = Path(__file__).with_name("launcher.py")
_LENGTH: Final = struct.Struct(">I")
_START_S: Final = 20.0
_REAP_S: Final = 5.0
_LOG_TAIL_BYTES: Final = 4096
_READ_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What a worker may use.

    Attributes:
        memory_bytes: address space (RLIMIT_AS).
        cpu_s: processor seconds of one call.
        file_bytes: size of one file it writes. open_files: descriptors.
        output_bytes: size of one result, and of what one call prints.
        processes: may start other processes. network: may open sockets (Linux only).
    """

    memory_bytes: int = 1 << 30
    cpu_s: float = 60.0
    file_bytes: int = 16 << 20
    open_files: int = 128
    output_bytes: int = 1 << 20
    processes: bool = False
    network: bool = True


class Worker:
    """One process, its pipes and its scratch directory."""

    def __init__(self, process: asyncio.subprocess.Process, scratch: str, limits: WorkerLimits) -> None:
        self._process = process
        self._scratch = scratch
        self._limits = limits
        self._printed = 0
        self._flooded = False
        self._log = b""
        self._reader = asyncio.get_running_loop().create_task(self._drain(), name=f"worker-log-{process.pid}")
        self.seen: set[str] = set()
        self.calls = 0
        self.layers: Sequence[str] = ()

    @classmethod
    async def start(cls, limits: WorkerLimits) -> Worker:
        """Start and confine one. Raises RuntimeUnavailable."""
        scratch = tempfile.mkdtemp(prefix="laneway-worker-")
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-B", "-X", "utf8", os.fspath(_LAUNCHER),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={},
                cwd=scratch,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            shutil.rmtree(scratch, ignore_errors=True)
            raise RuntimeUnavailable(f"a worker process could not be started: {error}") from error
        worker = cls(process, scratch, limits)
        try:
            async with asyncio.timeout(_START_S):
                await worker._write(
                    {
                        "sys_path": _import_paths(),
                        "scratch": scratch,
                        "limits": asdict(limits),
                    }
                )
                worker.layers = (await worker._read())["ready"]
        except BaseException as error:
            worker.kill()
            await worker.reap()
            if isinstance(error, Exception):
                raise RuntimeUnavailable(f"a worker process did not come up: {worker.tail() or error}") from error
            raise
        return worker

    @property
    def alive(self) -> bool:
        """True while the process runs."""
        return self._process.returncode is None

    async def call(self, request: Mapping[str, Any], measured: Measured | None = None) -> str:
        """Run one request and return its JSON text; the caller kills the worker on any error but ToolError."""
        self._printed = 0
        self.calls += 1
        asked_at = time.monotonic()
        try:
            await self._write(request)
            reply = await self._read()
        except (asyncio.IncompleteReadError, ConnectionError, ValueError) as error:
            raise await self._post_mortem(str(request["target"]), error) from None
        if measured is not None and "span" in reply:
            measured(*_believable(reply["span"], asked_at, time.monotonic(), self._process.pid))
        if "value" in reply:
            self.seen.add(str(request["target"]))
            return str(reply["value"])
        raise _told(str(request["target"]), reply["error"])

    async def _write(self, frame: Mapping[str, Any]) -> None:
        data = json.dumps(frame).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(_LENGTH.pack(len(data)) + data)
        await self._process.stdin.drain()

    async def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        (length,) = _LENGTH.unpack(await self._process.stdout.readexactly(_LENGTH.size))
        if length > 6 * self._limits.output_bytes + _READ_BYTES:  # JSON in JSON: six bytes a character at worst
            raise ValueError(f"a frame of {length} bytes")
        frame = json.loads(await self._process.stdout.readexactly(length))
        if not isinstance(frame, dict):
            raise ValueError("a frame that is not a map")
        return frame

    async def _drain(self) -> None:
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(_READ_BYTES):
            self._printed += len(chunk)
            self._log = (self._log + chunk)[-_LOG_TAIL_BYTES:]
            if self._printed > self._limits.output_bytes and not self._flooded:
                self._flooded = True
                self.kill()

    def tail(self) -> str:
        """The end of what it printed, for messages."""
        return self._log.decode(errors="replace").strip()[-500:]

    async def _post_mortem(self, target: str, cause: Exception) -> ToolError:
        self.kill()  # what still lives after breaking the protocol must not stay
        killed_by_us = self.alive
        await self.reap()
        if self._flooded:
            return ToolError(
                f"{target} printed more than {self._limits.output_bytes} bytes and was stopped; return less",
                reason="OUTPUT_TRUNCATED",
            )
        status = self._process.returncode
        if status == -getattr(signal, "SIGXCPU", 0):
            return ToolTimeout(
                f"{target} used its {self._limits.cpu_s:g} s of processor time and was stopped", reason="CPU_LIMIT"
            )
        how = f"broke the worker protocol ({cause})" if killed_by_us and status == -9 else _died(status)
        return ToolCrashed(f"the worker process of {target} {how}; {self.tail() or 'it printed nothing'}")

    def kill(self) -> None:
        """SIGKILL the process and its group; returns at once; idempotent."""
        if not self.alive:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    async def reap(self) -> None:
        """Wait for the killed process and remove its directory; bounded."""
        try:
            async with asyncio.timeout(_REAP_S):
                await self._process.wait()
                await self._reader
        except TimeoutError:
            self._reader.cancel()
        finally:
            if self._process.stdin is not None:
                self._process.stdin.close()
            shutil.rmtree(self._scratch, ignore_errors=True)


def _believable(span: object, asked_at: float, told_at: float, pid: int) -> tuple[float, float, int]:
    """What a worker says of its own time, within what was seen from outside: it may run anybody's code."""
    match span:
        case [float(began), float(ended), int(own)] if asked_at <= began <= ended <= told_at:
            return began, ended, own
    return asked_at, told_at, pid


def _import_paths() -> list[str]:
    return [os.path.abspath(path) for path in sys.path]  # an empty entry means this process's directory


def _died(status: int | None) -> str:
    if status is None:
        return "does not react to SIGKILL"
    if status >= 0:
        return f"exited with status {status}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-status).name}"
    return f"was ended by signal {-status}"


def _told(target: str, error: Mapping[str, Any]) -> ToolError:
    kind, name, text = str(error["kind"]), str(error["type"]), str(error["message"])
    if kind == "limit":
        return ToolError(
            f"{target} hit a limit of its worker ({name}: {text or 'no detail'}); "
            "use less memory, fewer files and no further processes, or raise WorkerLimits",
            reason="LIMIT",
        )
    if kind == "denied":
        return ToolDenied(f"{target} did what its worker may not do: {text}", reason="SANDBOX")
    if kind == "output":
        return ToolError(f"{target} returned too much ({text}); return less, or page", reason="OUTPUT_TRUNCATED")
    if kind == "target":
        return ToolError(
            f"{target} cannot be loaded in a worker ({name}: {text}); it must be importable by that name, "
            "or be run with inline=True",
            reason="TARGET",
        )
    return ToolError(f"{target} raised {name}: {text}", reason=name)
