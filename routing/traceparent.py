"""The W3C traceparent: which trace an event belongs to, and whether anybody records it.

Law of this file: strict, as text, and pure: https://www.w3.org/TR/trace-context/ version 00, 55
characters, lower case, no id of zeros. What does not parse counts as absent; it is never an error,
because a caller's broken tracing must not cost it an event. New ids come in as arguments.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["SAMPLED", "Traceparent", "child", "parse", "sampled", "trace_id", "write"]

SAMPLED: Final = 0x01
"""The one flag of version 00 that matters here: somebody records this trace."""

_FORM: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})\Z")


class Traceparent(NamedTuple):
    """One traceparent, taken apart.

    Attributes:
        trace_id: 32 hexadecimal digits. span_id: 16, the parent of what comes next. flags: 0 to 255.
    """

    trace_id: str
    span_id: str
    flags: int

    @property
    def sampled(self) -> bool:
        """True if the trace is recorded by whoever began it."""
        return bool(self.flags & SAMPLED)

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"


def parse(text: str) -> Traceparent | None:
    """Return the parts, or None for anything that is not a traceparent of version 00. 0.5 us."""
    match = _FORM.match(text)
    return None if match is None else Traceparent(match[1], match[2], int(match[3], 16))


def write(trace: int, span: int, flags: int = SAMPLED) -> str:
    """Return the text of 128 and 64 bit ids; neither may be 0."""
    return f"00-{trace:032x}-{span:016x}-{flags & 0xFF:02x}"


def sampled(text: str) -> bool:
    """Return whether a traceparent says that its trace is recorded; False if it is none."""
    parts = parse(text)
    return parts is not None and parts.sampled


def child(text: str, span_id: str) -> str:
    """Return the traceparent of a span under this one: same trace, same flags, its own id.

    Args:
        text: a valid traceparent; anything else gives "". span_id: 16 hexadecimal digits.
    """
    parts = parse(text)
    return "" if parts is None else str(parts._replace(span_id=span_id))


def trace_id(text: str) -> str:
    """Return the 32 digits that all spans of one trace share. The text must be a valid traceparent."""
    return text[3:35]
