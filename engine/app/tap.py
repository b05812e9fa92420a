"""The last events that passed, for `laneway tail`: a bounded ring of one-line summaries.

Law of this file: watching never slows or changes what is watched: one tuple per event, no bodies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from laneway.routing.envelope import BODY, ENTITY, KIND, LANE, RUN, SESSION, TENANT, Envelope, envelope_id
from laneway.routing.lanes import LANE_NAMES

__all__ = ["Tap"]

_KEPT: Final = 2000


class Tap:
    """Summaries of the last 2,000 events, numbered from 1.

    Args:
        wall: UNIX seconds.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._ring: deque[tuple[int, float, str, Envelope, int]] = deque(maxlen=_KEPT)
        self._last = 0

    def __call__(self, direction: str, env: Envelope) -> None:
        """Note one event; `direction` is "in" or "out". O(1)."""
        self._last += 1
        # the body is let go: only its size is kept
        self._ring.append((self._last, self._wall(), direction, (*env[:BODY], b"", 0.0), len(env[BODY])))

    def since(
        self, after: int, *, kind: str = "", session: str = "", limit: int = 500
    ) -> tuple[int, list[dict[str, Any]]]:
        """Return (last number, rows after that number), oldest first, filtered. O(ring)."""
        rows = [
            _row(number, at, direction, env, size)
            for number, at, direction, env, size in self._ring
            if number > after and (not kind or env[KIND] == kind) and (not session or env[SESSION] == session)
        ]
        return self._last, rows[-limit:]


def _row(number: int, at: float, direction: str, env: Envelope, size: int) -> dict[str, Any]:
    return {
        "n": number,
        "at": at,
        "direction": direction,
        "id": envelope_id(env),
        "kind": env[KIND],
        "tenant": env[TENANT],
        "session": env[SESSION],
        "run": env[RUN],
        "entity": env[ENTITY],
        "lane": LANE_NAMES[env[LANE]],
        "bytes": size,
    }
