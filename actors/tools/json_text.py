"""JSON text of one value, by an encoder that is made once.

Law of this file: the very text of `json.dumps(value, ensure_ascii=False)`. `json.dumps` makes an encoder
object at each call, which costs four times what a small value does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json import encoder
from typing import Any

__all__ = ["json_encoder"]


def json_encoder(*, allow_nan: bool = True) -> Callable[[object], str]:
    """Return a function from a value to its JSON text.

    It raises as `json.dumps` does: TypeError, ValueError (a circle; no finite number, unless `allow_nan`),
    RecursionError.
    """
    make: Any = getattr(encoder, "c_make_encoder", None)
    if make is None:  # an interpreter without it
        return json.JSONEncoder(ensure_ascii=False, allow_nan=allow_nan).encode
    marks: dict[int, object] = {}
    refuse = json.JSONEncoder().default
    parts = make(marks, refuse, encoder.encode_basestring, None, ": ", ", ", False, False, allow_nan)

    def encode(value: object) -> str:
        try:
            return "".join(parts(value, 0))
        except BaseException:
            marks.clear()  # what it was inside of when it failed
            raise

    return encode
