"""The kind table: lanes, numbers, and what a client may ask for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.routing.classify import BUILTIN_KINDS, IN, INOUT, Kind, KindTable
from laneway.routing.errors import ConfigError, PeerProtocolError
from laneway.routing.lanes import Lane


def test_numbers_are_unique_and_stable() -> None:
    """Wire numbers run from 1 without holes; these few are pinned, since peers depend on them."""
    assert [kind.number for kind in BUILTIN_KINDS] == list(range(1, len(BUILTIN_KINDS) + 1))
    pinned = {"INTERRUPT": 1, "RUN_ERROR": 3, "USER_MESSAGE": 5, "GAP": 11, "TEXT_MESSAGE_CONTENT": 16}
    table = KindTable()
    assert {name: table.require(name).number for name in pinned} == pinned
    assert table.require(16).name == "TEXT_MESSAGE_CONTENT"


def test_only_the_low_lane_may_be_dropped_or_volatile() -> None:
    """Nothing above the low lane is droppable, and all that is droppable is volatile."""
    for kind in BUILTIN_KINDS:
        if kind.droppable or not kind.durable:
            assert kind.lane is Lane.LOW
            assert kind.droppable
            assert not kind.durable


def test_critical_is_what_the_design_says() -> None:
    """Interrupt, cancel, RUN_ERROR and SESSION_EXPIRED are critical, and nothing else."""
    critical = {kind.name for kind in BUILTIN_KINDS if kind.lane is Lane.CRITICAL}
    assert critical == {"INTERRUPT", "CANCEL", "RUN_ERROR", "SESSION_EXPIRED"}
    assert {kind.name for kind in BUILTIN_KINDS if kind.control} == {"INTERRUPT", "CANCEL"}


@given(st.sampled_from(BUILTIN_KINDS), st.one_of(st.none(), st.integers(-3, 10)))
def test_a_client_lowers_but_never_raises(kind: Kind, asked: int | None) -> None:
    """The lane is the table's or a lower one that was asked for, whatever was asked."""
    lane = KindTable().lane(kind.name, asked)
    assert lane >= kind.lane
    if asked is not None and kind.lane <= asked <= Lane.LOW:
        assert lane == asked


@pytest.mark.parametrize("name", ["", "NO_SUCH_KIND", 0, 999, -1])
def test_an_unknown_kind_is_refused(name: str | int) -> None:
    """A name or number that is not in the table is the peer's error."""
    with pytest.raises(PeerProtocolError) as caught:
        KindTable().require(name)
    assert caught.value.reason == "UNKNOWN_KIND"


def test_plain_kinds_are_what_needs_no_care_at_the_door() -> None:
    """Sent by clients, neither critical nor control, durable or not; users' kinds are looked at as they come."""
    table = KindTable([Kind("WORK", Lane.NORMAL, direction=IN)])
    table.add(Kind("MORE", Lane.HIGH, direction=INOUT))
    for kind in (Kind("URGE", Lane.CRITICAL, direction=IN), Kind("ANSWER", Lane.HIGH)):
        table.add(kind)
    table.add(Kind("BLIP", Lane.LOW, durable=False, direction=IN))
    own = table.plain - KindTable().plain
    assert own == {"WORK", "MORE", "BLIP"}
    assert own & table.volatile == {"BLIP"}
    assert {"USER_MESSAGE", "TOOL_CALL", "DOC_SYNC"} <= table.plain
    assert "PRESENCE" in table.volatile <= table.plain
    assert not {"INTERRUPT", "TEXT_MESSAGE_CONTENT"} & table.plain


def test_kinds_of_text_are_one_set_for_all() -> None:
    """Whoever looked before a kind was added keeps what there was then."""
    table = KindTable([Kind("CAPTION", Lane.NORMAL, text=True)])
    before = table.text
    table.add(Kind("NOTE", Lane.NORMAL, text=True))
    assert (before - KindTable().text, table.text - before) == ({"CAPTION"}, {"NOTE"})
    assert table.text == {kind.name for kind in table if kind.text}


def test_users_add_kinds() -> None:
    """A kind of one's own is known by name; a taken name and a droppable kind above low are refused."""
    table = KindTable([Kind("PAINT", Lane.HIGH, direction=IN)])
    assert table.lane("PAINT") is Lane.HIGH
    assert "PAINT" in table
    assert table.get("OTHER") is None
    with pytest.raises(ConfigError, match="exists already"):
        table.add(Kind("PAINT", Lane.LOW))
    with pytest.raises(ConfigError, match="only low may be dropped"):
        table.add(Kind("NOISE", Lane.NORMAL, droppable=True))
