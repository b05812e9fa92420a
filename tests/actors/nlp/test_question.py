"""What a run is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from laneway.actors.nlp.question import asked, unread_policy
from laneway.actors.sessions.transcript import CUT
from laneway.routing.envelope import Envelope, envelope
from laneway.routing.errors import PeerProtocolError
from laneway.routing.lanes import Lane

SO_FAR = [{"id": "u", "role": "user", "content": "tell"}, {"id": "a", "role": "assistant", "content": "once upon"}]


def _event(kind: str, body: object, run: str = "r2") -> Envelope:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"producer": "c", "counter": 1, "tenant": "t", "session": "s", "lane": Lane.HIGH, "run": run}
    return envelope(kind, body=data, **fields)  # type: ignore[arg-type]


def _earlier(messages: Sequence[Mapping[str, Any]]) -> Any:
    return lambda tenant, session: messages


def test_a_message_is_asked_behind_what_was_said_before() -> None:
    """And not twice, if the session has it already."""
    run = asked(_event("USER_MESSAGE", b"more"), "", _earlier([*SO_FAR, {"id": "c:1", "role": "user", "content": ""}]))
    assert [message["content"] for message in run["messages"]] == ["tell", "once upon", "more"]
    assert (run["threadId"], run["runId"]) == ("s", "r2")


def test_an_input_is_taken_as_it_was_sent() -> None:
    """But for its session and run, which are the event's."""
    given = {"messages": [{"id": "1", "role": "user", "content": "x"}], "threadId": "no", "parentRunId": "r1"}
    run = asked(_event("RUN_INPUT", given), "", _earlier(SO_FAR))
    assert (run["messages"], run["threadId"], run["runId"]) == (given["messages"], "s", "r2")


def test_a_run_that_goes_on_is_given_all_that_was_said() -> None:
    """`parentRunId` and no messages: the session's, the unfinished answer last."""
    run = asked(_event("RUN_INPUT", {"parentRunId": "r1"}), "", _earlier(SO_FAR))
    assert run["messages"] == SO_FAR
    assert asked(_event("RUN_INPUT", {}), "", _earlier(SO_FAR))["messages"] == []


@pytest.mark.parametrize(
    ("earlier", "reason"),
    [([], "NO_MESSAGES"), ([{"id": "a", "role": "assistant", "content": f"once{CUT}"}], "TOO_LONG")],
)
def test_a_part_is_not_passed_off_for_the_whole(earlier: list[dict[str, Any]], reason: str) -> None:
    """What the session does not remember whole must be sent."""
    with pytest.raises(PeerProtocolError) as refused:
        asked(_event("RUN_INPUT", {"parentRunId": "r1"}), "", _earlier(earlier))
    assert refused.value.reason == reason


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"messages": 1}'])
def test_what_is_no_run_input_is_refused(body: bytes) -> None:
    """BAD_TYPE, with what to send."""
    with pytest.raises(PeerProtocolError, match="RunAgentInput"):
        asked(_event("RUN_INPUT", body), "", _earlier([]))


def test_a_run_says_what_becomes_of_it_unread() -> None:
    """`forwardedProps.unread`, one of three; nothing said is nothing."""
    assert unread_policy({"forwardedProps": {"unread": "close"}}) == "close"
    assert unread_policy({"forwardedProps": {}}) is None
    assert unread_policy({"forwardedProps": None}) is None
    for wrong in ("stop", 1, ["close"]):
        with pytest.raises(PeerProtocolError, match="close, continue, pause"):
            unread_policy({"forwardedProps": {"unread": wrong}})
