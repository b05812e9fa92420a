"""What fronts relay, as plain data."""

from __future__ import annotations

import msgpack

from laneway.actors.fronts.parcels import Parcels, hello_fields, hello_of, principal_of, principal_row, size_bytes
from laneway.actors.ports import Principal
from laneway.engine.app.packing import LogPacking
from laneway.routing.envelope import ACCEPTED, DEADLINE
from laneway.routing.handshake import Hello, parse_hello
from laneway.routing.link import LinkFrame
from laneway.routing.replay import Cursor
from tests.actors.sessions.stage import an_event, kind_table, text


class _Clock:
    def __init__(self, at: float) -> None:
        self.at = at

    def now(self) -> float:
        return self.at


def _parcels(at: float) -> Parcels:
    return Parcels(LogPacking(kind_table()), _Clock(at))


def _carried(thing: object) -> object:
    return msgpack.unpackb(msgpack.packb(thing))


def test_a_hello_arrives_as_it_was() -> None:
    """With a cursor or without, whatever it wishes."""
    offer = {
        "v": [1], "client": "c", "session": "s", "cursor": ["e", 1, 2], "skip": 3, "grant": 9, "run": "r",
        "caps": {"chunk_chars": 40, "grants": False, "hold": "sentence", "flush_ms": 7}, "topics": ["topic:x"],
    }  # fmt: skip
    for hello in (parse_hello(offer), Hello((1,), "c", "s"), Hello((1,), "c", "s", Cursor("e", 4, 5))):
        assert hello_of(_carried(hello_fields(hello))) == hello  # type: ignore[arg-type]


def test_a_principal_arrives_as_it_was() -> None:
    """With its scopes and the end of its credentials."""
    for principal in (Principal("ada", "t", frozenset({"admin", "tool:*"}), 12.5), Principal("")):
        assert principal_of(_carried(principal_row(principal))) == principal  # type: ignore[arg-type]


def test_events_arrive_with_what_is_left_of_their_time() -> None:
    """Clocks of two machines need not agree; a kind that only one side knows passes through."""
    event = an_event(1, kind="OF_ANOTHER_VERSION", deadline=107.0, entity="e", after="c:0", body=b"\xff\x00")
    (back,) = _parcels(5000.0).unpack(_parcels(100.0).pack([event]))
    assert back[DEADLINE] == 5007.0
    assert back[ACCEPTED] == 5000.0
    assert (*back[:DEADLINE], *back[DEADLINE + 1 : ACCEPTED]) == (*event[:DEADLINE], *event[DEADLINE + 1 : ACCEPTED])


def test_frames_arrive_as_they_were_cut() -> None:
    """Headers untouched, events neither merged nor split; large sums in several messages, in order."""
    frames = [LinkFrame({"first": n, "stream": 1, "shape": [[1, 0, 0]]}, [text(n, "x" * 60_000)]) for n in range(1, 21)]
    frames.append(LinkFrame({"notice": {"code": "DRAINING"}}, []))
    parts = list(_parcels(1.0).out(frames))
    assert len(parts) == 3
    back: list[LinkFrame] = []
    for rows, size in parts:
        some, arrived = _parcels(1.0).frames(_carried(rows))  # type: ignore[arg-type]
        assert arrived == size
        back += some
    assert [frame.header for frame in back] == [frame.header for frame in frames]
    assert [[env[:ACCEPTED] for env in frame.envelopes] for frame in back] == [
        [env[:ACCEPTED] for env in frame.envelopes] for frame in frames
    ]


def test_nothing_is_free() -> None:
    """An empty frame counts something, so that a flood of them is held back too."""
    assert size_bytes([]) > 0
    assert size_bytes([b"1234"]) == size_bytes([]) + 4
