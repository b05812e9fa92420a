"""RAW and `rawEvent` are left out, and nothing else of an event changes."""

from __future__ import annotations

import pytest

from laneway.actors.nlp import vocabulary as v
from laneway.actors.nlp.stripping import Stripping
from laneway.actors.ports import Out
from tests.actors.conftest import RecordingProbe


@pytest.mark.parametrize(
    ("out", "kept"),
    [
        (v.mark("RAW", {"event": {"big": 1}}), None),
        (
            v.mark("CUSTOM", {"name": "n", "value": 1, "rawEvent": {"x": 1}}),
            v.mark("CUSTOM", {"name": "n", "value": 1}),
        ),
        (Out("TEXT_MESSAGE_CONTENT", b"\xff" + v.mark("X", {"delta": "é", "rawEvent": 1}).body, "m"), v.text("m", "é")),
        (
            Out("TEXT_MESSAGE_CONTENT", b"\xff" + v.mark("X", {"delta": "a", "timestamp": 1, "rawEvent": 1}).body, "m"),
            Out("TEXT_MESSAGE_CONTENT", b"\xff" + v.mark("X", {"delta": "a", "timestamp": 1}).body, "m"),
        ),
    ],
)
def test_what_is_stripped_is_counted(out: Out, kept: Out | None) -> None:
    """Whole events and fields, sealed deltas too; one whose rest is plain text travels as plain text."""
    probe = RecordingProbe()
    assert Stripping(probe)(out) == kept
    left = 0 if kept is None else len(kept.body)
    assert probe.counts == {"run.stripped": 1, "run.stripped_bytes": len(out.body) - left}


@pytest.mark.parametrize(
    "out",
    [v.text("m", "the word rawEvent in a text"), v.text("m", ""), v.mark("CUSTOM", {"name": "rawEvent", "value": 1})],
)
def test_the_word_alone_changes_nothing(out: Out) -> None:
    """The very same event goes on, and nothing is counted."""
    probe = RecordingProbe()
    assert Stripping(probe)(out) is out
    assert Stripping()(out) is out
    assert probe.counts == {}
