"""Connections and bytes of a transport."""

from __future__ import annotations

import pytest

from laneway.engine.edge.traffic import Traffic
from laneway.engine.telemetry.counters import Counters
from laneway.routing.errors import Draining, LanewayError, LinkClosed, Overloaded, SlowConsumer


class _Clock:
    at = 0.0

    def now(self) -> float:
        return self.at


@pytest.mark.parametrize(
    ("reason", "established", "goodbye", "result"),
    [
        (None, True, True, "left"),
        (LinkClosed("bye"), True, False, "left"),
        (None, True, False, "lost"),
        (Draining("down"), True, False, "ended"),
        (Draining("down"), False, False, "refused"),
        (Overloaded("full"), False, False, "refused"),
        (SlowConsumer("slow"), True, False, "failed"),
    ],
)
def test_every_connection_is_counted_once_by_how_it_ended(
    reason: LanewayError | None, established: bool, goodbye: bool, result: str
) -> None:
    """With its duration, and the code of what went wrong."""
    clock, counters = _Clock(), Counters()
    traffic = Traffic("grpc", clock, counters)
    with traffic.connection() as connection:
        assert (traffic.opened, traffic.active) == (1, 1)
        clock.at = 5.0
        connection.over(reason, established=established, goodbye=goodbye)
    assert (traffic.opened, traffic.active) == (1, 0)
    assert {name: count for name, count in traffic.closed.items() if count} == {result: 1}
    recorded = counters.snapshot()
    assert recorded["connection.duration{transport=grpc}"]["sum"] == 5.0
    wrong = [name for name in recorded if name.startswith("connection.error")]
    assert wrong == ([f"connection.error{{code={reason.code}}}"] if result in ("refused", "failed") and reason else [])


def test_what_breaks_out_is_a_failure_and_goes_on() -> None:
    """A bug in an edge does not leave a connection active for ever."""
    traffic = Traffic("http", _Clock())
    with pytest.raises(ZeroDivisionError), traffic.connection():
        raise ZeroDivisionError
    assert (traffic.active, traffic.closed["failed"]) == (0, 1)
