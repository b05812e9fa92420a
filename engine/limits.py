"""What one piece of input may weigh before anything is built from it.

Law of this file: every bound that a decoder enforces stands here, so that an operator can read
what a client may cost. Items are bounded as well as bytes: 1 MiB of empty msgpack maps becomes
73 MiB of Python objects, 1 MiB of `{}` in JSON 24 MiB (measured, msgpack 1.2, CPython 3.11).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["DEFAULT_LIMITS", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one frame, body or JSON document.

    Attributes:
        frame_bytes: a whole frame as it comes from the wire; 1 KiB or more.
        header_bytes: its header map alone.
        items: envelopes in one frame.
        body_bytes: one body, or one JSON document.
        depth: nesting of arrays and maps; the outermost one counts as 1. At most 200, the
            depth at which the JSON parser itself gives up.
        elements: entries of one array or map.
        values: values in all arrays and maps of one body together.
    """

    frame_bytes: int = 1_048_576
    header_bytes: int = 65_536
    items: int = 1_024
    body_bytes: int = 1_048_576
    depth: int = 32
    elements: int = 10_000
    values: int = 50_000


DEFAULT_LIMITS: Final = Limits()
