"""Logs: one record, one line; JSON for programs, text for a terminal.

Law of this file: whatever is logged, a JSON line is one line, valid, below its bound in bytes, and nothing
raises. JSON lines are ASCII, so that no encoding of a stream can spoil them.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, Any, Final

from laneway.engine.telemetry.flood import Flood, FloodPolicy
from laneway.engine.telemetry.records import fields_of

__all__ = ["MAX_LINE_BYTES", "JsonLines", "LogHandler", "TextLines", "logging_to"]

MAX_LINE_BYTES: Final = 16_384
"""Of one JSON line with its line feed."""

_LEFT_OUT_BYTES: Final = len(',"left_out":999')


class JsonLines(logging.Formatter):
    """One JSON object a line: ts, level, logger, message, code, exception, trace_id, span_id, traceback, extras.

    `ts` is RFC 3339 in UTC; the rest is told at `records.fields_of`. Fields that find no room are counted
    in `left_out`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its line feed; never raises."""
        line, left, left_out = "", MAX_LINE_BYTES - _LEFT_OUT_BYTES - 3, 0
        for name, value in {"ts": _utc(record.created), **fields_of(record)}.items():
            field = f"{json.dumps(name)}:{json.dumps(value, allow_nan=False)}"
            if len(field) + 1 > left:
                left_out += 1
                continue
            line, left = f"{line},{field}" if line else field, left - len(field) - 1
        if left_out:
            line += f',"left_out":{left_out}'
        return f"{{{line}}}"


class TextLines(logging.Formatter):
    """One line for a person: time, level, logger, message, extras; a traceback follows below it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text without its last line feed; never raises."""
        fields = dict(fields_of(record))
        level, logger, message = (str(fields.pop(name)) for name in ("level", "logger", "message"))
        trace = fields.pop("traceback", "")
        fields.pop("exception", None)
        more = "".join(f" {name}={value}" for name, value in fields.items())
        line = f"{_local(record.created)} {level:<8} {logger}: {message}{more}".replace("\n", "\\n")
        return f"{line}\n{trace}" if trace else line


class LogHandler(logging.StreamHandler[IO[str]]):
    """Writes lines to a stream, no more of them than `flood` lets through.

    Attributes:
        structured: whether the lines are JSON. lost: lines that could not be written.
    """

    def __init__(self, stream: IO[str], flood: Flood, *, structured: bool) -> None:
        super().__init__(stream)
        self.setFormatter(JsonLines() if structured else TextLines())
        self.structured = structured
        self.lost = 0
        self._flood = flood

    @property
    def dropped(self) -> int:
        """Lines that could not be written, or that a flood left out."""
        return self.lost + self._flood.left_out

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, unless it is one of a flood."""
        for each in self._flood.admit(record):
            super().emit(each)

    def tell_rest(self) -> None:
        """Say now what was left out so far."""
        self.acquire()
        try:
            for each in self._flood.rest():
                super().emit(each)
        finally:
            self.release()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Count it; where a log cannot be written, complaining there does not help."""
        self.lost += 1


@contextmanager
def logging_to(
    stream: IO[str],
    *,
    form: str = "auto",
    level: str = "info",
    policy: FloodPolicy | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Iterator[LogHandler]:
    """Send this process's logs and warnings to `stream` while the block lasts.

    Args:
        form: "json", "text", or "auto": text if the stream is a terminal.
        level: lowest level of our own loggers that is written; of other libraries, warnings and above.

    What the root logger had before comes back with the end of the block. For programs, not for libraries.
    """
    text = form == "text" or (form == "auto" and stream.isatty())
    handler = LogHandler(stream, Flood(now, policy), structured=not text)
    root, own = logging.getLogger(), logging.getLogger("laneway")
    before: Mapping[Any, int] = {root: root.level, own: own.level}
    handlers, root.handlers = root.handlers, [handler]
    wanted = logging.getLevelNamesMapping()[level.upper()]
    own.setLevel(wanted)
    root.setLevel(max(wanted, logging.WARNING))
    logging.captureWarnings(True)
    try:
        yield handler
    finally:
        handler.tell_rest()
        logging.captureWarnings(False)
        root.handlers = handlers
        for logger, was in before.items():
            logger.setLevel(was)


def _utc(created: float) -> str:
    try:
        at = datetime.fromtimestamp(created, UTC)
    except (ValueError, OverflowError, OSError, TypeError):  # a record somebody made by hand
        at = datetime.fromtimestamp(0, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _local(created: float) -> str:
    try:
        return datetime.fromtimestamp(created).astimezone().strftime("%H:%M:%S")
    except (ValueError, OverflowError, OSError, TypeError):
        return "--:--:--"
