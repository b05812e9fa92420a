"""The inside of a worker process: confine itself, then run one named callable after the other.

Law of this file: standard library only, started by path (`python -I`), so that a worker costs 10-20 ms
and inherits nothing. Limits are set here, before any foreign code is imported, because a `preexec_fn`
in a threaded parent can deadlock. The protocol is a 4-byte big-endian length and UTF-8 JSON, on file
descriptors the callable does not see: its own stdout and stderr both go to the parent's log pipe.

Frames: first ``{"sys_path", "scratch", "limits"}`` -> ``{"ready": [layers]}``; then per call
``{"target", "arguments", "cpu_s", "convert", "output_bytes", "trace"}`` -> ``{"value": JSON text}`` or
``{"error": {"kind", "type", "message"}}`` with kind limit | denied | raised | target | output. With a
trace the callable finds it in TRACEPARENT, and the answer has ``"span": [began, ended, pid]`` beside it,
in seconds of the machine's monotonic clock, which all its processes share.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import runpy
import signal
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, BinaryIO

__all__ = ["serve"]

_LENGTH = struct.Struct(">I")
_LIMIT_ERRORS = {errno.EAGAIN, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC}
_MESSAGE_CHARS = 2000


def _receive(source: BinaryIO) -> dict[str, Any] | None:
    head = source.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    frame: dict[str, Any] = json.loads(source.read(_LENGTH.unpack(head)[0]))
    return frame


def _send(sink: BinaryIO, frame: dict[str, Any]) -> None:
    data = json.dumps(frame).encode()
    sink.write(_LENGTH.pack(len(data)) + data)
    sink.flush()


def _resolve(target: str) -> Callable[..., Any]:
    """Import ``module:qualname``, or load ``/path/to/file.py:qualname`` as a script that is not main."""
    place, _, qualname = target.rpartition(":")
    if place.endswith(".py"):
        found: Any = runpy.run_path(place, run_name="__mp_main__")[qualname.split(".")[0]]
        rest = qualname.split(".")[1:]
    else:
        found = importlib.import_module(place)
        rest = qualname.split(".")
    for name in rest:
        found = getattr(found, name)
    if not callable(found):
        raise TypeError(f"{target} is {type(found).__name__}, not callable")
    called: Callable[..., Any] = found
    return called


def _allow_cpu(seconds: float) -> None:
    """Let this call use so much processor time beyond what the process has used; then SIGXCPU ends it."""
    try:
        import resource
    except ImportError:  # not POSIX: the parent's wall deadline alone
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except TypeError:
        import pydantic_core

        return pydantic_core.to_json(value, inf_nan_mode="null").decode()


def _kind(error: BaseException) -> str:
    if isinstance(error, (MemoryError, RecursionError)):
        return "limit"
    if isinstance(error, OSError) and error.errno in _LIMIT_ERRORS:
        return "limit"
    return "denied" if isinstance(error, PermissionError) else "raised"


def _failure(kind: str, error: BaseException) -> dict[str, Any]:
    return {"error": {"kind": kind, "type": type(error).__name__, "message": str(error)[:_MESSAGE_CHARS]}}


def _perform(request: dict[str, Any], known: dict[str, Callable[..., Any]]) -> dict[str, Any]:
    target = request["target"]
    try:
        if target not in known:
            function = _resolve(target)
            if request["convert"]:
                import pydantic

                function = pydantic.validate_call(function)
            known[target] = function
    except (Exception, SystemExit) as error:
        return _failure("target", error)
    _allow_cpu(request["cpu_s"])
    try:
        value = _as_json(known[target](**request["arguments"]))
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        return _failure(_kind(error), error)
    if len(value) > request["output_bytes"]:
        return _failure("output", ValueError(f"the result has {len(value)} characters"))
    return {"value": value}


def _traced(request: dict[str, Any], known: dict[str, Callable[..., Any]]) -> dict[str, Any]:
    os.environ["TRACEPARENT"] = request["trace"]
    began = time.monotonic()
    try:
        answer = _perform(request, known)
    finally:
        os.environ.pop("TRACEPARENT", None)
    return {**answer, "span": [began, time.monotonic(), os.getpid()]}


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Move the protocol away from descriptors 0 and 1, which the callable gets as null and the log pipe."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as null:
        os.dup2(null.fileno(), 0)
    os.dup2(2, 1)
    return source, sink


def serve(confine: Callable[[str, dict[str, Any]], list[str]]) -> None:
    """Serve calls until the parent closes the pipe."""
    source, sink = _private_pipes()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the parent's to handle
    setup = _receive(source)
    if setup is None:
        return
    layers = confine(setup["scratch"], setup["limits"])
    known_paths = set(sys.path)
    sys.path.extend(path for path in setup["sys_path"] if path not in known_paths)
    _send(sink, {"ready": layers})
    known: dict[str, Callable[..., Any]] = {}
    while (request := _receive(source)) is not None:
        _send(sink, _traced(request, known) if request.get("trace") else _perform(request, known))


if __name__ == "__main__":
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), "confinement.py")
    serve(runpy.run_path(beside)["confine"])
