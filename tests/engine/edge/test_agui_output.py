"""One run on its way to a stock client, through a real link, checked by the protocol's own models."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from laneway.actors.nlp import vocabulary
from laneway.actors.ports import Out
from laneway.engine.codec import pack_body
from laneway.engine.edge.agui_input import RunRequest, read_run
from laneway.engine.edge.agui_output import Place, RunOutput, parse_place
from laneway.routing.classify import Kind, KindTable
from laneway.routing.envelope import KIND, Envelope, envelope
from laneway.routing.errors import PeerProtocolError
from laneway.routing.handshake import LinkPlan
from laneway.routing.lanes import Lane
from laneway.routing.link import Link
from laneway.routing.replay import Cursor, ReplayRing
from tests.engine.edge.agui_rules import check_run, parsed

KINDS = KindTable([Kind("ALERT", Lane.NORMAL, direction="out")])
THREAD, RUN = "my thread / 1", "run é"


def asked(version: str | None = "1.0") -> RunRequest:
    body = {"threadId": THREAD, "runId": RUN, "messages": [], "protocolVersion": version}
    return read_run(json.dumps(body).encode())


class Stage:
    """A session's two rings and links over them."""

    def __init__(self) -> None:
        self.rings = (ReplayRing(10_000, 10_000_000), ReplayRing(10_000, 10_000_000))
        self._counter = count(1)

    def say(self, out: Out, run: str) -> None:
        lane = KINDS.lane(out.kind)
        env = envelope(
            out.kind,
            producer="engine",
            counter=next(self._counter),
            tenant="t",
            session="s",
            lane=lane,
            run=run,
            entity=out.entity,
            body=out.body,
        )
        ring = self.rings[0 if lane == Lane.CRITICAL else 1]
        ring.commit(ring.append(env)[0])

    def link(self, cursor: Cursor = Cursor("e1"), chunk_chars: int = 200, max_items: int = 64) -> Link:  # noqa: B008
        plan = LinkPlan(grants=False, pace_bytes_per_s=0, chunk_chars=chunk_chars, max_items=max_items)
        return Link(plan, *self.rings, cursor, KINDS, 0.0)

    def sent(self, output: RunOutput, link: Link) -> bytes:
        """All that the link has, written by `output`."""
        body, now = b"", 0.0
        while (due := link.deadline()) is not None and now < 10_000:
            now = max(now + 0.01, due)
            frames = link.poll(now)
            if not frames:
                break
            body += b"".join(output.take(frame.header, frame.envelopes) for frame in frames)
        return body


def started(request: RunRequest) -> Out:
    said = [{"id": "m1", "role": "user", "content": "hi"}]
    return vocabulary.run_started(request.session, request.run_id, None, said)


def finished(request: RunRequest, **more: Any) -> Out:
    return vocabulary.run_finished(request.session, request.run_id, **more)


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@st.composite
def scripts(draw: st.DrawFn, errors: bool) -> list[tuple[str, Out]]:
    """Events of our run, of another run, and of none, as a session numbers them; the run ends, perhaps in an error."""
    request = asked()
    script: list[tuple[str, Out]] = [(request.run_id, started(request))]
    opened: list[str] = []
    for number in range(draw(st.integers(0, 25))):
        choice = draw(st.sampled_from(["open", "text", "text", "close", "other", "shared", "own", "raw", "state"]))
        if choice == "open":
            opened.append(f"m{number}")
            script.append((request.run_id, vocabulary.text_start(opened[-1])))
        elif choice == "text" and opened:
            script.append((request.run_id, vocabulary.text(draw(st.sampled_from(opened)), draw(words))))
        elif choice == "close" and opened:
            script.append((request.run_id, vocabulary.text_end(opened.pop())))
        elif choice == "other":
            script.append(
                ("other", draw(st.sampled_from([vocabulary.text("m1", "x"), vocabulary.run_error("no", "X")])))
            )
        elif choice == "shared":
            kind, fields = draw(
                st.sampled_from([("STATE_SNAPSHOT", {"snapshot": None}), ("STATE_DELTA", {"delta": []})])
            )
            script.append(("", Out(kind, pack_body(fields), "doc")))
        elif choice == "own":
            script.append(
                (
                    draw(st.sampled_from(["", request.run_id])),
                    Out("ALERT", draw(st.sampled_from([b'{"a":1}', b"\x81", b"{"]))),
                )
            )
        elif choice == "raw":
            script.append((request.run_id, Out("RAW", pack_body({"event": {"x": 1}}))))
        else:
            script.append((request.run_id, Out("CUSTOM", pack_body({"name": "n", "value": None, "rawEvent": 1}))))
    script += [(request.run_id, vocabulary.text_end(name)) for name in reversed(opened)]
    script.append((request.run_id, vocabulary.run_error("no", "X") if errors else finished(request)))
    script += [("", Out("STATE_SNAPSHOT", pack_body({"snapshot": 1}))), ("other", vocabulary.text("m1", "late"))]
    return script


def staged(script: list[tuple[str, Out]]) -> Stage:
    stage = Stage()
    for run, out in script:
        stage.say(out, run)
    return stage


def text_of(events: list[dict[str, Any]]) -> dict[str, str]:
    said: dict[str, str] = {}
    for event in events:
        if event["type"] == "TEXT_MESSAGE_CONTENT":
            said[event["messageId"]] = said.get(event["messageId"], "") + event["delta"]
    return said


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.booleans().flatmap(scripts), st.sampled_from([1, 16, 200]), st.booleans())
def test_every_response_is_one_run_that_stock_clients_take(
    script: list[tuple[str, Out]], max_items: int, modern: bool
) -> None:
    """Whatever else the session does: the protocol's models and its order rules hold, and the text is whole.

    Only RUN_ERROR may overtake what was said before it; it ends the response.
    """
    stage = staged(script)
    output = RunOutput(asked("1.0" if modern else None), Place(Cursor("e1")))
    events = [event for _, event in parsed(stage.sent(output, stage.link(chunk_chars=16, max_items=max_items)))]
    check_run(events)
    assert output.over
    if events[-1]["type"] == "RUN_ERROR":
        return
    assert events[0]["threadId"] == events[-1]["threadId"] == THREAD
    assert events[0]["runId"] == RUN
    mine = [out for run, out in script if run == asked().run_id and out.kind == "TEXT_MESSAGE_CONTENT"]
    said: dict[str, str] = {}
    for out in mine:
        said[out.entity] = said.get(out.entity, "") + out.body.decode()
    assert {name: text for name, text in text_of(events).items() if text} == {n: t for n, t in said.items() if t}


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(scripts(errors=False), st.integers(0, 40), st.booleans())
def test_a_client_that_goes_on_after_any_event_gets_exactly_the_rest(
    script: list[tuple[str, Out]], cut: int, again: bool
) -> None:
    """The id of each event is where to go on: the parts together are the undisturbed response."""
    stage = staged(script)
    whole = parsed(stage.sent(RunOutput(asked(), Place(Cursor("e1"))), stage.link(chunk_chars=16, max_items=3)))
    have = whole[: cut % len(whole) + 1]
    for _ in range(1 + again):
        place = parse_place(have[-1][0])
        rest = RunOutput(asked(), place, resumed=True)
        more = (
            parsed(stage.sent(rest, stage.link(place.cursor, chunk_chars=16, max_items=5)))
            if len(have) < len(whole)
            else []
        )
        events = [event for _, event in have + more]
        assert text_of(events) == text_of([event for _, event in whole])
        assert [e for e in events if "delta" not in e] == [e for _, e in whole if "delta" not in e]
        have = [*have, *more[: max(0, len(more) // 2)]]


def one(output: RunOutput, out: Out, run: str = "", *, seq: int = 1, stream: int = 1) -> list[dict[str, Any]]:
    env: Envelope = envelope(
        out.kind, producer="p", counter=seq, tenant="t", session="s", lane=2, run=run, entity=out.entity, body=out.body
    )
    return [event for _, event in parsed(output.take({"stream": stream, "first": seq}, [env]))]


def begun(version: str | None = "1.0") -> RunOutput:
    output = RunOutput(asked(version), Place(Cursor("e1")))
    assert one(output, started(asked()), asked().run_id)
    return output


def test_the_outcome_is_told_as_the_clients_version_knows_it() -> None:
    """1.0 gets `outcome`; an older client would die of "cancelled" and gets it as metadata."""
    end = finished(asked(), outcome={"type": "cancelled"})
    new, old = begun(), begun(None)
    assert one(new, end, asked().run_id)[0]["outcome"] == {"type": "cancelled"}
    (event,) = one(old, end, asked().run_id)
    assert "outcome" not in event
    assert event["metadata"] == {"finishedReason": "cancelled"}
    interrupt = {"type": "interrupt", "interrupts": [{"id": "i1", "reason": "ask"}]}
    assert one(begun(None), finished(asked(), outcome=interrupt), asked().run_id)[0]["outcome"] == interrupt


def test_our_protocol_version_is_told_to_those_who_asked() -> None:
    """An older client does not know the field, and wants an input whole or not at all."""
    fresh = RunOutput(asked(), Place(Cursor("e1")))
    (event,) = one(fresh, started(asked()), asked().run_id)
    assert event["protocolVersion"] == "1.0"
    assert (event["input"]["threadId"], event["input"]["runId"]) == (THREAD, RUN)
    older = RunOutput(asked(None), Place(Cursor("e1")))
    (event,) = one(older, started(asked()), asked().run_id)
    assert set(event) == {"type", "threadId", "runId"}


def test_state_outside_of_runs_begins_with_its_snapshot() -> None:
    """A delta goes only to a client that was given what it applies to, also after a reconnect."""
    output = begun()
    delta = Out("STATE_DELTA", pack_body({"delta": []}), "doc")
    assert one(output, delta) == []
    assert one(output, Out("STATE_SNAPSHOT", pack_body({"snapshot": {}}), "doc"))
    assert one(output, delta, seq=2)
    assert one(output, Out("STATE_DELTA", pack_body({"delta": []}), "other"), seq=3) == []
    again = RunOutput(asked(), parse_place(str(output.place)), resumed=True)
    assert one(again, delta, seq=4)
    unnamed = begun()
    assert one(unnamed, Out("STATE_SNAPSHOT", pack_body({"snapshot": {}})))
    assert one(RunOutput(asked(), parse_place(str(unnamed.place)), resumed=True), Out("STATE_DELTA", delta.body))


def test_kinds_of_ones_own_travel_as_custom_if_they_are_json() -> None:
    """Bytes of another format mean nothing to an AG-UI client and are left out."""
    output = begun()
    (event,) = one(output, Out("ALERT", b'{"level":2}', "fire"))
    assert event == {"type": "CUSTOM", "name": "ALERT", "value": {"level": 2}, "metadata": {"entity": "fire"}}
    for kind, body in (("ALERT", b"{broken"), ("ALERT", b"\x01\x02"), ("DOC_SYNC", b"\x00\x01"), ("GAP", b"{}")):
        assert one(output, Out(kind, body)) == []


def test_an_error_ends_the_response_also_before_the_run_began() -> None:
    """RUN_ERROR may come at any point, and nothing after it."""
    output = RunOutput(asked(), Place(Cursor("e1")))
    (event,) = one(output, vocabulary.run_error("no room", "OVERLOADED"), asked().run_id, stream=0)
    assert (event["type"], event["code"]) == ("RUN_ERROR", "OVERLOADED")
    assert one(output, started(asked()), asked().run_id, seq=2) == []


def test_a_body_that_cannot_be_read_ends_nothing_but_itself() -> None:
    """A broken event is left out; of a broken end the client is told that it is the end."""
    output = begun()
    assert one(output, Out("CUSTOM", b"\xc1"), asked().run_id) == []
    (event,) = one(output, Out("RUN_FINISHED", b"\xc1"), asked().run_id, seq=2)
    assert event["type"] == "RUN_ERROR"
    assert output.over


def test_snapshots_of_the_session_are_not_for_clients_that_bring_their_history() -> None:
    """The link's opening snapshot is outside of the run."""
    output = begun()
    env = envelope(
        "MESSAGES_SNAPSHOT", producer="p", counter=1, tenant="t", session="s", lane=2, body=pack_body({"messages": []})
    )
    assert output.take({"snapshot": True}, [env]) == b""
    assert env[KIND] == "MESSAGES_SNAPSHOT"


@pytest.mark.parametrize("text", ["", "e1", "e1.1", "e1.1.x", "e1.-1.2", "e1.1." + "9" * 30, "e" * 400])
def test_a_last_event_id_that_is_not_ours_is_refused(text: str) -> None:
    """It is a client's mistake, not a place."""
    with pytest.raises(PeerProtocolError):
        parse_place(text)


def test_places_are_written_and_read_alike() -> None:
    """Short where nothing is to say."""
    for place, text in (
        (Place(Cursor("e1", 2, 3)), "e1.2.3"),
        (Place(Cursor("e1", 2, 3, 4)), "e1.2.3+4"),
        (Place(Cursor("e1", 2, 3), "doc"), "e1.2.3~doc"),
    ):
        assert str(place) == text
        assert parse_place(text) == place
    assert replace(asked(), run="x").run == "x"
