"""Bodies of AG-UI events."""

from __future__ import annotations

import msgpack
import pytest

from laneway.actors.nlp import vocabulary
from laneway.actors.ports import Out
from laneway.routing.envelope import SEAL


def test_absent_fields_are_left_out() -> None:
    """null is fatal to stock clients, so an absent optional has no key."""
    out = vocabulary.tool_start("c1", "weather")
    assert vocabulary.fields_of(out) == {"toolCallId": "c1", "toolCallName": "weather"}
    assert out.entity == "c1"


def test_text_deltas_are_plain_utf8() -> None:
    """A text kind's body is its delta and nothing else."""
    assert vocabulary.text("m1", "grüß") == Out("TEXT_MESSAGE_CONTENT", "grüß".encode(), "m1")
    assert vocabulary.delta_of(vocabulary.text("m1", "grüß")) == "grüß"


def test_raw_event_is_stripped_from_maps_and_sealed_deltas() -> None:
    """What a framework appends as rawEvent does not reach the log; the rest does."""
    body = msgpack.packb({"stepName": "a", "rawEvent": {"x": 1}})
    assert vocabulary.fields_of(vocabulary.bare(Out("STEP_STARTED", body))) == {"stepName": "a"}
    sealed = bytes([SEAL]) + msgpack.packb({"delta": "hi", "rawEvent": {}})
    assert vocabulary.bare(Out("TEXT_MESSAGE_CONTENT", sealed, "m")) == Out("TEXT_MESSAGE_CONTENT", b"hi", "m")
    kept = bytes([SEAL]) + msgpack.packb({"delta": "hi", "metadata": {"a": 1}, "rawEvent": {}})
    stripped = vocabulary.bare(Out("TEXT_MESSAGE_CONTENT", kept, "m"))
    assert stripped.body[0] == SEAL
    assert vocabulary.fields_of(stripped) == {"delta": "hi", "metadata": {"a": 1}}


def test_a_text_that_speaks_of_raw_events_is_untouched() -> None:
    """A plain delta containing the word rawEvent is text, not a field."""
    out = vocabulary.text("m1", "the rawEvent field")
    assert vocabulary.bare(out) is out


def test_a_body_that_is_no_map_is_refused() -> None:
    """A list where a map belongs is a ValueError, not a crash later."""
    with pytest.raises(ValueError, match="not a map"):
        vocabulary.fields_of(Out("STEP_STARTED", msgpack.packb([1])))
