"""Server-sent events out of bytes, whatever the chunk boundaries; pure.

Law of this file: the event stream grammar of the HTML standard (section 9.2.6): LF, CRLF or CR
ends a line, a blank line ends an event, `data` lines join with LF, a leading BOM and comments are
skipped, an event without data is none. Other fields are read over: OpenAI-compatible endpoints
put everything into `data`.
"""

from __future__ import annotations

from typing import Final

from laneway.routing.errors import ModelFailed

__all__ = ["SseDecoder"]

_MAX_EVENT_BYTES: Final = 1_048_576
_BOM: Final = b"\xef\xbb\xbf"


class SseDecoder:
    """Incremental decoder of one response.

    Args:
        max_event_bytes: bound on one event; a larger one raises ModelFailed(TOO_LARGE).
    """

    __slots__ = ("_data", "_first", "_max", "_pending", "_size", "_skip_lf")

    def __init__(self, max_event_bytes: int = _MAX_EVENT_BYTES) -> None:
        self._pending = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._skip_lf = False
        self._first = True
        self._max = max_event_bytes

    def feed(self, piece: bytes) -> list[str]:
        """Return the data of every event completed by `piece`. O(piece).

        Raises ModelFailed(BAD_UTF8 or TOO_LARGE).
        """
        if self._skip_lf and piece:
            piece = piece.removeprefix(b"\n")
            self._skip_lf = False
        scanned = len(self._pending)
        self._pending += piece
        if b"\n" not in piece and b"\r" not in piece:
            self._bound(scanned + len(piece))
            return []
        lines = bytes(self._pending).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._skip_lf = self._pending.endswith(b"\r")
        self._pending = bytearray(lines.pop())
        events = []
        for line in lines:
            event = self._line(line)
            if event is not None:
                events.append(event)
        self._bound(len(self._pending))
        return events

    def _line(self, line: bytes) -> str | None:
        if self._first:
            line, self._first = line.removeprefix(_BOM), False
        if not line:
            data, self._data, self._size = self._data, [], 0
            return _decoded(b"\n".join(data)) if data else None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._size += len(value) + 1
            self._bound(0)
            self._data.append(value.removeprefix(b" "))
        return None

    def _bound(self, pending: int) -> None:
        if self._size + pending > self._max:
            raise ModelFailed(f"the endpoint sent an event above {self._max} bytes", reason="TOO_LARGE")


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelFailed("the endpoint sent an event that is not UTF-8", reason="BAD_UTF8") from error
