"""Conversation memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.nlp import vocabulary as v
from laneway.actors.nlp.history import History, Turn
from laneway.actors.ports import Out

USER = {"id": "u1", "role": "user", "content": "hello"}


def test_a_turn_becomes_messages() -> None:
    """User text, assistant text, tool call and its result come back as AG-UI messages."""
    turn = Turn([USER], 1000)
    for out in (v.text_start("m"), v.text("m", "let me "), v.text("m", "see"), v.text_end("m")):
        turn.fold(out)
    for out in (v.tool_start("c", "time", "m"), v.tool_arguments("c", "{}"), v.tool_end("c")):
        turn.fold(out)
    turn.fold(v.tool_result("x", "c", "noon"))
    function = {"name": "time", "arguments": "{}"}
    assert turn.messages() == [
        USER,
        {
            "id": "m",
            "role": "assistant",
            "content": "let me see",
            "toolCalls": [{"id": "c", "type": "function", "function": function}],
        },
        {"id": "result-c", "role": "tool", "toolCallId": "c", "content": "noon"},
    ]


def test_an_unanswered_call_is_forgotten() -> None:
    """No endpoint accepts a call without a result, so an interrupted one is left out."""
    turn = Turn([USER], 1000)
    turn.fold(v.tool_start("c", "time"))
    assert turn.messages() == [USER]


def test_text_beyond_the_bound_is_cut_at_a_character() -> None:
    """A turn never grows past its bound, and is never cut inside a character."""
    turn = Turn([], 5)
    turn.fold(v.text_start("m"))
    turn.fold(v.text("m", "ééé"))
    turn.fold(v.text("m", "more"))
    assert turn.messages()[0]["content"] == "éé"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 400)), max_size=60))
def test_history_is_bounded_in_bytes_and_sessions(turns: list[tuple[int, int]]) -> None:
    """Whatever is added, sessions and bytes stay within the bounds and the newest turn is there."""
    history = History(session_bytes=1_000, sessions=3)
    for session, size in turns:
        history.add("t", str(session), [{"id": "x", "role": "user", "content": "y" * size}])
        kept = history.messages("t", str(session))
        assert sum(96 + len(m["content"]) for m in kept) <= 1_000
        assert len(kept[-1]["content"]) == size
    assert len(history) <= 3


def test_tenants_do_not_share() -> None:
    """The same session name of another tenant is another session."""
    history = History()
    history.add("a", "s", [USER])
    assert history.messages("b", "s") == []


@pytest.mark.parametrize("room", [0, 100])
def test_what_is_no_text_is_refused_also_where_nothing_is_remembered(room: int) -> None:
    """A delta that is not UTF-8 raises, so that the run that said it fails."""
    turn = Turn([], room)
    turn.fold(v.text_start("m"))
    with pytest.raises(ValueError, match="utf-8"):
        turn.fold(Out("TEXT_MESSAGE_CONTENT", b"\xfe\xfe", "m"))
