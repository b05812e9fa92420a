"""Views: bounded cursors of sessions on one document."""

from __future__ import annotations

import msgpack

from laneway.actors.sync.content import Content
from laneway.actors.sync.messages import MessageType, decode_message
from laneway.actors.sync.patch import apply, parse_operations
from laneway.actors.sync.presence import PresenceTable
from laneway.actors.sync.update import parse_update
from laneway.actors.sync.views import FrameView, StateView, state_change
from laneway.engine.documents.replica import Replica
from laneway.engine.documents.yjs import YjsEngine

ENGINE = YjsEngine()


def source():
    content = Content(ENGINE.open("d", 1))
    return content, lambda index: content.patch(
        parse_operations([{"op": "add", "path": f"/k{index % 9}", "value": "x" * 500 + str(index)}])
    )


def types(outs):
    return [decode_message(out.body).type for out in outs]


def test_a_greeting_then_updates():
    """Step 1 is answered by step 2, a step 1 and presence; then one frame per telling."""
    content, edit = source()
    edit(0)
    view, presence, replica = FrameView("s", "d", ENGINE.merge), PresenceTable(), Replica("d")
    presence.receive(PresenceTable.entry(5, 1, "{}"), "o", 0.0)
    view.ask({}, "p")
    assert view.needs_content
    outs = view.take(content, presence)
    assert types(outs) == [MessageType.STEP2, MessageType.STEP1, MessageType.AWARENESS]
    for index in range(1, 4):
        view.add(edit(index), ("", ""))
    assert not view.needs_content
    more = view.take(None, presence)
    assert types(more) == [MessageType.UPDATE]
    for out in (*outs, *more):
        replica.receive(out.body)
    assert replica.fingerprint() == content.document.fingerprint()
    assert not view.dirty


def test_what_waits_is_bounded_and_made_up_for():
    """Far beyond 64 KiB of waiting frames the view holds nothing, and one frame makes up for all."""
    content, edit = source()
    view, presence, replica = FrameView("s", "d", ENGINE.merge), PresenceTable(), Replica("d")
    view.ask({}, "p")
    for out in view.take(content, presence):
        replica.receive(out.body)
    for index in range(1_000):
        view.add(edit(index), ("", ""))
        assert sum(map(len, view._updates)) <= 65_536
    assert view.needs_content
    outs = view.take(content, presence)
    assert sum(len(out.body) for out in outs) < 100_000
    for out in outs:
        replica.receive(out.body)
    assert replica.fingerprint() == content.document.fingerprint()
    assert replica.pending == 0


def test_own_updates_are_echoed_only_to_a_second_client():
    """One client of the session: not told. Two: told."""
    content, edit = source()
    view = FrameView("s", "d", ENGINE.merge)
    view.ask({}, "one")
    view.take(content, PresenceTable())
    view.add(edit(1), ("s", "one"))
    assert not view.dirty
    view.add(edit(2), ("other", "one"))
    assert view.dirty
    view.ask({}, "two")
    view.take(content, PresenceTable())
    view.add(edit(3), ("s", "one"))
    assert view.dirty


def test_state_is_told_by_snapshot_then_deltas_across_sleep():
    """A frozen view goes on with deltas if the document is as told, else with a snapshot."""
    view = StateView("s", "d")
    (out,) = view.take({"a": 1}, state_change)
    assert (out.kind, out.entity) == ("STATE_SNAPSHOT", "d")
    assert view.take({"a": 1}, state_change) == []
    view.freeze()
    view.thaw({"a": 1})
    assert not view.dirty
    (out,) = view.take({"a": 2}, state_change)
    assert out.kind == "STATE_DELTA"
    told = apply({"a": 1}, parse_operations(msgpack.unpackb(out.body)["delta"]))
    assert told == {"a": 2}
    view.freeze()
    view.thaw({"a": 3})
    assert view.dirty
    (out,) = view.take({"a": 3}, state_change)
    assert out.kind == "STATE_SNAPSHOT"


def test_the_smaller_of_delta_and_snapshot_is_told():
    """A change of nearly everything goes as a snapshot."""
    old = {f"key{index}": index for index in range(200)}
    assert state_change(old, {"x": 1}).kind == "STATE_SNAPSHOT"
    assert state_change(old, {**old, "x": 1}).kind == "STATE_DELTA"


def test_deletions_are_made_up_for_too():
    """A view that forgot its queue also learns what was deleted meanwhile."""
    content, edit = source()
    view, replica = FrameView("s", "d", ENGINE.merge), Replica("d")
    edit(1)
    view.ask({}, "p")
    for out in view.take(content, PresenceTable()):
        replica.receive(out.body)
    view.add(content.patch(parse_operations([{"op": "remove", "path": "/k1"}])), ("", ""))
    view._drop()
    for out in view.take(content, PresenceTable()):
        replica.receive(out.body)
    assert replica.json() == {}
    assert replica.fingerprint() == content.document.fingerprint()
    assert not parse_update(content.document.snapshot()).missing({})
