"""A log in memory: what it weighs, and what is left of it when nobody writes it."""

from __future__ import annotations

import gc
import weakref

from laneway.engine.stores.memory_log import LOG_OVERHEAD_BYTES, MemoryLog
from laneway.routing.envelope import COUNTER, Envelope, envelope


class _Home:
    def pack(self, env: Envelope) -> bytes:
        return b"%d" % env[COUNTER]


def _event(number: int) -> Envelope:
    return envelope("K", producer="p", counter=number, tenant="t", session="s", lane=2, body=bytes(100))


def test_a_log_that_rests_is_bytes_and_holds_nobody() -> None:
    """Events are packed, what that saves is told, and whoever packed them can go."""
    home = _Home()
    log = MemoryLog(0, "e")
    rows = log.rows(1, 5)
    rows.pack = home.pack
    rows.rows += [(number, number * 10, _event(number)) for number in range(5, 8)]
    before = log.bytes
    saved = log.rest()
    assert (saved > 0, log.bytes) == (True, before - saved)
    assert list(rows.page(1, 100)) == [(6, 60, b"6"), (7, 70, b"7")]
    assert log.floors == {1: 5}
    assert rows.cut(3) == before - saved - LOG_OVERHEAD_BYTES
    assert log.bytes == LOG_OVERHEAD_BYTES
    alive = weakref.ref(home)
    del home
    gc.collect()
    assert alive() is None


def test_warm_events_stay_as_they_are() -> None:
    """Of a stream the newest are packed only when the log rests; each is packed once."""
    log = MemoryLog(0, "e")
    rows = log.rows(0, 1)
    rows.pack = _Home().pack
    rows.rows += [(number, number, _event(number)) for number in range(1, 11)]
    assert rows.shrink(4) > 0
    assert [type(held) for _, _, held in rows.rows] == [bytes] * 6 + [tuple] * 4
    assert rows.shrink(4) == 0
    assert rows.rest() > 0
    assert rows.shrink(0) == 0
