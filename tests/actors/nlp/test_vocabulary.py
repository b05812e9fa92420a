"""Bodies of AG-UI events."""

from __future__ import annotations

import msgpack
import pytest

from laneway.actors.nlp import vocabulary
from laneway.actors.ports import Out


def test_absent_fields_are_left_out() -> None:
    """null is fatal to stock clients, so an absent optional has no key."""
    out = vocabulary.tool_start("c1", "weather")
    assert vocabulary.fields_of(out) == {"toolCallId": "c1", "toolCallName": "weather"}
    assert out.entity == "c1"


def test_text_deltas_are_plain_utf8() -> None:
    """A text kind's body is its delta and nothing else."""
    assert vocabulary.text("m1", "grüß") == Out("TEXT_MESSAGE_CONTENT", "grüß".encode(), "m1")
    assert vocabulary.delta_of(vocabulary.text("m1", "grüß")) == "grüß"


def test_a_body_that_is_no_map_is_refused() -> None:
    """A list where a map belongs is a ValueError, not a crash later."""
    with pytest.raises(ValueError, match="not a map"):
        vocabulary.fields_of(Out("STEP_STARTED", msgpack.packb([1])))
