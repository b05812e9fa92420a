"""What an application sees of an event."""

from __future__ import annotations

import msgpack
import pytest

from laneway.engine.delivery import Event
from laneway.routing.envelope import SEAL, envelope
from laneway.routing.errors import PeerProtocolError
from laneway.routing.inbox import SNAPSHOT, Received
from laneway.routing.items import Gap


def event(kind: str, body: bytes = b"", *, stream: int = 1, gap: Gap | None = None) -> Event:
    env = envelope(kind, producer="e", counter=1, tenant="t", session="s", lane=2, run="r", entity="m", body=body)
    return Event(Received(stream, 1, 1, True, env, gap))


def test_text_is_the_delta_of_text_events_only() -> None:
    """Sealed ones are opened; of all others there is no text, so that printing it is always right."""
    sealed = bytes([SEAL]) + msgpack.packb({"messageId": "m", "delta": "hidden", "timestamp": 1})
    assert event("TEXT_MESSAGE_CONTENT", "é!".encode()).text == "é!"
    assert event("TEXT_MESSAGE_CONTENT", sealed).text == "hidden"
    assert event("RUN_FINISHED", msgpack.packb({"threadId": "s", "runId": "r"})).text == ""
    assert event("TEXT_MESSAGE_CONTENT", b"cut \xc3").text == "cut �"


def test_data_is_the_agui_event() -> None:
    """With its type; kinds that AG-UI does not have are an error at the attribute, not a lost event."""
    finished = event("RUN_FINISHED", msgpack.packb({"threadId": "s", "runId": "r"}))
    assert finished.data == {"type": "RUN_FINISHED", "threadId": "s", "runId": "r"}
    published = event("PUBLISH", b"opaque")
    with pytest.raises(PeerProtocolError):
        _ = published.data
    assert published.body == b"opaque"


def test_what_it_says_about_its_place() -> None:
    """End of a run, snapshot, gap."""
    assert event("RUN_ERROR").ends_run
    assert not event("STEP_FINISHED").ends_run
    assert event("MESSAGES_SNAPSHOT", stream=SNAPSHOT).snapshot
    assert not event("MESSAGES_SNAPSHOT").snapshot
    assert event("LOG").dropped == {}
    gap = Gap({"LOG": 3}, 100, "overload")
    assert event("GAP", gap=gap).dropped == {"LOG": 3}
