"""Where an end that cuts in stands: RUN_ERROR overtakes what its run said, and tells after which of it.

Law of this file: the one body of the urgent stream that is ours to open.
"""

from __future__ import annotations

from typing import Any

import msgpack

from laneway.routing.envelope import BODY, KIND, Envelope, with_body

__all__ = ["standing_after"]


def standing_after(env: Envelope, seq: int) -> Envelope:
    """Return a RUN_ERROR that names the last data seq of its session; any other event as it is."""
    if env[KIND] != "RUN_ERROR":
        return env
    body: dict[str, Any] = msgpack.unpackb(env[BODY]) if env[BODY] else {}
    body["after"] = seq
    return with_body(env, msgpack.packb(body))
