"""The documents pool as sessions meet it: over frames, patches and presence, on a real store."""

from __future__ import annotations

import asyncio
import json

import jsonpatch
import pytest

from laneway.actors.sync.bounds import SyncPolicy
from laneway.actors.sync.messages import MessageType, decode_message, encode_message
from laneway.actors.sync.update import parse_update
from laneway.engine.documents.replica import Replica
from laneway.engine.documents.yjs import YjsEngine
from laneway.engine.stores.memory import MemoryStore
from laneway.engine.stores.sqlite import SqliteStore
from laneway.routing.errors import (
    Draining,
    Fenced,
    LaneFull,
    LocalProtocolError,
    Overloaded,
    PeerProtocolError,
    StoreError,
)


def patch(*rows):
    return json.dumps(list(rows)).encode()


def add(path, value):
    return {"op": "add", "path": path, "value": value}


def test_two_sessions_edit_one_document(sync):
    """Each gets the other's edits, not its own; both end equal."""

    async def main():
        house = sync.House()
        one, two = sync.Peer(house, "one"), sync.Peer(house, "two")
        await one.join()
        await two.join()
        await one.sync()
        await two.sync()
        one.replica.set({"title": "a", "n": 5})
        one.replica.insert_text(0, "héllo 👩‍👩‍👧 世界")
        await one.push()
        await house.settle()
        assert house.take("one") == []
        await two.sync()
        two.replica.insert_text(6, "X")
        await two.sync()
        await one.sync()
        assert one.replica.fingerprint() == two.replica.fingerprint()
        assert one.replica.json() == two.replica.json() == {"title": "a", "n": 5}
        assert one.replica.text() == two.replica.text() == "héllo X👩‍👩‍👧 世界"
        await house.documents.close()

    sync.run(main())


def test_two_clients_of_one_session_hear_each_other(sync):
    """Once a second client of the session asked, updates of the first are told to the session."""

    async def main():
        house = sync.House()
        one, two = Replica("d"), Replica("d")
        await house.send("DOC_SYNC", one.hello(), "s", producer="one")
        await house.send("DOC_SYNC", two.hello(), "s", producer="two")
        await house.settle()
        house.take("s")
        one.set({"a": 1})
        await house.send("DOC_SYNC", one.changes()[0], "s", producer="one")
        await house.settle()
        for _, body in house.take("s"):
            two.receive(body)
        assert two.json() == {"a": 1}
        await house.documents.close()

    sync.run(main())


def test_a_patch_reaches_frames_and_projection(sync):
    """DOC_PATCH is told as a Yjs update to frame sessions and as STATE_DELTA to state sessions."""

    async def main():
        house = sync.House()
        peer = sync.Peer(house, "yjs")
        await peer.join()
        await house.send("DOC_PATCH", b"[]", "agui")
        await house.settle()
        assert house.states("agui") == [("STATE_SNAPSHOT", {"snapshot": {}})]
        await house.send("DOC_PATCH", patch(add("/steps", [{"id": 1}]), add("/n", 5.0)), "agent")
        await peer.sync()
        assert peer.replica.json() == {"steps": [{"id": 1}], "n": 5}
        ((kind, body),) = house.states("agui")
        assert kind == "STATE_DELTA"
        assert jsonpatch.apply_patch({}, body["delta"]) == {"steps": [{"id": 1}], "n": 5}
        assert house.take("agent") == []
        await house.documents.close()

    sync.run(main())


def test_deltas_follow_a_snapshot_exactly(sync):
    """Whatever the edits, applying what was told in order gives the document; large changes come whole."""

    async def main():
        house = sync.House()
        await house.send("DOC_PATCH", b"[]", "agui")
        state, kinds = None, []
        big = {f"k{index}": "x" * 20 for index in range(50)}
        for body in (
            patch(add("", {"a": [1, 2, 3], "b": big})),
            patch({"op": "remove", "path": "/a/1"}, add("/a/-", True)),
            patch(add("", {"a": [9]})),
            patch(add("/c", 1.5)),
        ):
            await house.send("DOC_PATCH", body, "agent")
            await house.settle()
            for kind, event in house.states("agui"):
                kinds.append(kind)
                state = event["snapshot"] if kind == "STATE_SNAPSHOT" else jsonpatch.apply_patch(state, event["delta"])
        assert state == {"a": [9], "c": 1.5}
        assert kinds[0] == "STATE_SNAPSHOT"
        assert "STATE_DELTA" in kinds
        await house.documents.close()

    sync.run(main())


def test_edits_within_a_tick_travel_together(sync):
    """The first edit after silence goes at once; those that follow it closely are one delta, one frame."""

    async def main():
        house = sync.House()
        peer = sync.Peer(house, "yjs")
        await peer.join()
        await house.send("DOC_PATCH", b"[]", "agui")
        await house.settle()
        house.take("yjs")
        house.take("agui")
        for index in range(20):
            await house.send("DOC_PATCH", patch(add(f"/k{index}", index)), "agent")
        await house.settle()
        assert len(house.take("yjs")) <= 3
        assert len(house.take("agui")) <= 3
        await house.documents.close()

    sync.run(main())


def test_subscribing_again_gives_a_new_snapshot(sync):
    """A client whose patch did not apply resyncs by asking again."""

    async def main():
        house = sync.House()
        for _ in range(2):
            await house.send("DOC_PATCH", b"[]", "agui")
            await house.settle()
        assert [kind for kind, _ in house.states("agui")] == ["STATE_SNAPSHOT", "STATE_SNAPSHOT"]
        await house.documents.close()

    sync.run(main())


def test_bad_events_raise_typed_errors_and_harm_nobody(sync):
    """After every kind of bad input the document is as before and the next good event works."""
    bad = [
        ("DOC_SYNC", b""),
        ("DOC_SYNC", b"\x00"),
        ("DOC_SYNC", b"\x00\x07\x00"),
        ("DOC_SYNC", b"\x07\x00"),
        ("DOC_SYNC", b"\x00\x02\x05\x01"),
        ("DOC_SYNC", encode_message(MessageType.UPDATE, b"\x01\x01\x05\x00\x3f")),
        ("DOC_SYNC", encode_message(MessageType.STEP1, b"\xff\xff\xff\xff\x0f")),
        ("DOC_SYNC", encode_message(MessageType.AWARENESS, b"\x00")),
        ("DOC_PATCH", b"{"),
        ("DOC_PATCH", b'[{"op":"remove","path":"/none"}]'),
        ("DOC_PATCH", b'[{"op":"add","path":"","value":[]}]'),
        ("DOC_PATCH", b'[{"op":"add","path":"/x","value":1},{"op":"test","path":"/a","value":2}]'),
        ("PRESENCE", encode_message(MessageType.AWARENESS, b"\x01\x05\x01\x03{,}")),
        ("PRESENCE", encode_message(MessageType.STEP1, b"\x00")),
    ]

    async def main():
        house = sync.House()
        await house.send("DOC_PATCH", patch(add("/a", 1)))
        for kind, body in bad:
            with pytest.raises(PeerProtocolError):
                await house.send(kind, body)
        with pytest.raises(PeerProtocolError, match="BAD_ID"):
            await house.send("DOC_PATCH", b"[]", doc="")
        with pytest.raises(PeerProtocolError, match="BAD_ID"):
            await house.send("DOC_PATCH", b"[]", doc="../x")
        with pytest.raises(LocalProtocolError):
            await house.send("PUBLISH", b"")
        await house.send("DOC_PATCH", patch(add("/b", 2)))
        await house.send("DOC_PATCH", b"[]", "agui")
        await house.settle()
        assert house.states("agui") == [("STATE_SNAPSHOT", {"snapshot": {"a": 1, "b": 2}})]
        await house.documents.close()

    sync.run(main())


def test_tenants_do_not_share_documents(sync):
    """The same id of two tenants is two documents."""

    async def main():
        house = sync.House()
        await house.send("DOC_PATCH", patch(add("/a", 1)), tenant="other")
        await house.send("DOC_PATCH", b"[]", "agui")
        await house.settle()
        assert house.states("agui") == [("STATE_SNAPSHOT", {"snapshot": {}})]
        assert await house.store.keys("other/") == ["other/doc/d"]
        await house.documents.close()

    sync.run(main())


def test_a_gap_is_answered_and_healed(sync):
    """An update whose forerunner is missing waits, the sender is asked, nothing is lost."""

    async def main():
        house = sync.House()
        replica = Replica("d")
        replica.set({"a": 1})
        first = replica.changes()[0]
        replica.set({"a": 1, "b": 2})
        second = replica.changes()[0]
        (out,) = await house.send("DOC_SYNC", second)
        assert decode_message(out.body).type is MessageType.STEP1
        assert house.documents.statistics().pending == 1
        for body in replica.receive(out.body):
            await house.send("DOC_SYNC", body)
        assert house.documents.statistics().pending == 0
        assert await house.send("DOC_SYNC", first) == []
        await house.send("DOC_PATCH", b"[]", "agui")
        await house.settle()
        assert house.states("agui") == [("STATE_SNAPSHOT", {"snapshot": {"a": 1, "b": 2}})]
        assert house.probe.counts["documents.gap"] == 1
        await house.documents.close()

    sync.run(main())


def test_a_waiting_update_survives_restart_and_compaction(sync):
    """It is in the log like any other, and in the snapshot."""

    async def main():
        store = MemoryStore()
        replica = Replica("d")
        replica.set({"a": 1})
        first = replica.changes()[0]
        replica.set({"a": 1, "b": 2})
        second = replica.changes()[0]
        house = sync.House(store=store)
        await house.send("DOC_SYNC", second)
        for index in range(600):
            await house.send("DOC_PATCH", patch(add("/n", index)))
        await house.settle()
        assert house.documents.statistics().compactions == 1
        await house.documents.close()
        house = sync.House(store=store)
        await house.send("DOC_SYNC", first)
        await house.send("DOC_PATCH", b"[]", "agui")
        await house.settle()
        assert house.states("agui") == [("STATE_SNAPSHOT", {"snapshot": {"a": 1, "b": 2, "n": 599}})]
        await house.documents.close()

    sync.run(main())


def test_waiting_updates_are_bounded(sync):
    """A peer cannot fill the memory with pieces that never fit."""

    async def main():
        house = sync.House()
        replica = Replica("d")
        replica.set({"a": 0})
        replica.changes()
        refused = []
        for index in range(100):
            replica.set({"a": index + 1})
            try:
                await house.send("DOC_SYNC", replica.changes()[0])
            except PeerProtocolError as error:
                refused.append(error.reason)
        assert refused == ["GAP_TOO_LARGE"] * 36
        assert house.documents.statistics().pending == 64
        await house.documents.close()

    sync.run(main())


def test_presence_is_echoed_told_and_ends(sync):
    """Awareness comes back to its sender, reaches the others, is given to who joins, times out."""

    async def main():
        house = sync.House()
        one, two = sync.Peer(house, "one"), sync.Peer(house, "two")
        await one.join()
        await one.sync()
        await house.send("PRESENCE", one.replica.presence({"name": "Ada"}), "one")
        await house.settle()
        (told,) = house.take("one")
        assert told[0] == "PRESENCE"
        await two.join()
        await two.sync()
        assert two.replica.peers() == {one.replica.client_id: {"name": "Ada"}}
        outs = await house.send("PRESENCE", encode_message(MessageType.QUERY_AWARENESS), "three")
        assert [out.kind for out in outs] == ["PRESENCE"]
        await house.settle(40)
        await two.pull()
        assert two.replica.peers() == {}
        await house.documents.close()

    sync.run(main())


def test_presence_of_a_session_without_frames_is_echoed_too(sync):
    """The sender always hears something, or y-websocket closes."""

    async def main():
        house = sync.House()
        replica = Replica("d")
        outs = await house.send("PRESENCE", replica.presence({"x": 1}))
        assert [out.kind for out in outs] == ["PRESENCE"]
        await house.documents.close()

    sync.run(main())


def test_leaving_ends_subscription_and_presence(sync):
    """A session that left is told nothing; its clients are told as gone."""

    async def main():
        house = sync.House()
        one, two = sync.Peer(house, "one"), sync.Peer(house, "two")
        for peer in (one, two):
            await peer.join()
            await peer.sync()
        await house.send("PRESENCE", one.replica.presence({"x": 1}), "one")
        await two.sync()
        assert len(two.replica.peers()) == 1
        house.take("one")
        house.documents.leave("t", "one")
        two.replica.set({"a": 1})
        await two.sync()
        assert house.take("one") == []
        assert two.replica.peers() == {}
        await house.documents.close()

    sync.run(main())


def test_a_dead_session_loses_its_view(sync):
    """A home that refuses for good is not told again; the others are."""

    async def main():
        house = sync.House()
        peer = sync.Peer(house, "one")
        await peer.join()
        await house.send("DOC_PATCH", b"[]", "dead")
        await peer.sync()
        house.gone.add("dead")
        await house.send("DOC_PATCH", patch(add("/a", 1)))
        await peer.sync()
        assert peer.replica.json() == {"a": 1}
        assert house.documents.statistics().views == 1
        assert house.probe.counts["documents.lost_view"] == 1
        await house.documents.close()

    sync.run(main())


def test_a_slow_session_delays_nobody_and_costs_little(sync):
    """While one session has no credit the others go on; when it has, it gets all of it, folded."""

    async def main():
        house = sync.House()
        fast, slow = sync.Peer(house, "fast"), sync.Peer(house, "slow")
        for peer in (fast, slow):
            await peer.join()
            await peer.sync()
        house.stalled["slow"] = asyncio.Event()
        for index in range(300):
            await house.send("DOC_PATCH", patch(add(f"/k{index % 7}", "x" * 1000 + str(index))))
        await fast.sync()
        assert fast.replica.json()["k5"].endswith("299") or len(fast.replica.json()) == 7
        house.stalled.pop("slow").set()
        await house.settle()
        assert sum(len(body) for _, body in house.told["slow"]) < 100_000
        await slow.sync()
        assert slow.replica.fingerprint() == fast.replica.fingerprint()
        assert slow.replica.canonical() == fast.replica.canonical()
        await house.documents.close()

    sync.run(main())


def test_idle_documents_are_put_away_and_come_back(sync):
    """Memory holds what is used; subscriptions outlive the document, and deltas go on."""

    async def main():
        house = sync.House(policy=SyncPolicy(idle_s=10, sweep_s=1))
        peer = sync.Peer(house, "yjs")
        await peer.join()
        await house.send("DOC_PATCH", b"[]", "agui")
        await house.send("DOC_PATCH", patch(add("/a", 1)))
        await peer.sync()
        await house.settle(20)
        assert house.documents.statistics().resident == 0
        assert house.documents.statistics().views == 2
        house.take("agui")
        await house.send("DOC_PATCH", patch(add("/b", 2)))
        await peer.sync()
        assert peer.replica.json() == {"a": 1, "b": 2}
        delta = [{"op": "add", "path": "/b", "value": 2}]
        assert house.states("agui") == [("STATE_DELTA", {"delta": delta})]
        house.documents.leave("t", "yjs")
        house.documents.leave("t", "agui")
        await house.settle(60)
        assert house.documents.statistics().rooms == 0
        await house.documents.close()

    sync.run(main())


def test_one_writer_id_while_a_document_sleeps_and_wakes(sync):
    """Putting a document away does not add a client to its state vector."""

    async def main():
        house = sync.House(policy=SyncPolicy(idle_s=10, sweep_s=1))
        peer = sync.Peer(house, "yjs")
        await peer.join()
        for index in range(5):
            await house.send("DOC_PATCH", patch(add("/a", index)))
            await house.settle(20)
        await peer.pull()
        message = decode_message(peer.replica.hello())
        assert message.payload[0] == 1
        await house.documents.close()

    sync.run(main())


def test_documents_in_memory_are_capped(sync):
    """Beyond the cap the longest unused goes; if all are busy the event is refused for a while."""

    async def main():
        house = sync.House(policy=SyncPolicy(resident=3, rooms=6))
        for index in range(10):
            await house.send("DOC_PATCH", patch(add("/n", index)), doc=f"d{index}")
        stats = house.documents.statistics()
        assert (stats.resident, stats.rooms) == (3, 6)
        for index in range(10):
            await house.send("DOC_PATCH", patch({"op": "test", "path": "/n", "value": index}), doc=f"d{index}")
        for index in range(6):
            await house.send("DOC_PATCH", b"[]", f"s{index}", doc=f"e{index}")
        await house.settle()
        with pytest.raises(Overloaded):
            await house.send("DOC_PATCH", b"[]", doc="one-more")
        await house.documents.close()

    sync.run(main())


def test_subscribers_and_size_are_capped(sync):
    """Typed refusals at both bounds; edits that fit go on."""

    async def main():
        house = sync.House(policy=SyncPolicy(views=2, document_bytes=5_000))
        await house.send("DOC_PATCH", b"[]", "a")
        await house.send("DOC_PATCH", b"[]", "b")
        await house.send("DOC_PATCH", b"[]", "b")
        with pytest.raises(LaneFull):
            await house.send("DOC_PATCH", b"[]", "c")
        await house.send("DOC_PATCH", patch(add("/a", "x" * 6_000)))
        with pytest.raises(PeerProtocolError, match="TOO_LARGE"):
            await house.send("DOC_PATCH", patch(add("/b", 1)))
        await house.documents.close()
        with pytest.raises(Draining):
            await house.send("DOC_PATCH", b"[]", "a")

    sync.run(main())


class Broken:
    """A store that fails where it is told to."""

    def __init__(self, inner) -> None:
        self.inner = inner
        self.fail: dict[str, Exception] = {}
        self.calls: list[str] = []

    def __getattr__(self, name):
        method = getattr(self.inner, name)

        async def call(*args, **fields):
            self.calls.append(name)
            await asyncio.sleep(0.001)
            if name in self.fail:
                raise self.fail.pop(name)
            return await method(*args, **fields)

        return call


def test_nothing_is_told_before_it_is_logged(sync):
    """If the log refuses, the sender gets the error and nobody sees the edit; the next one works."""

    async def main():
        store = Broken(MemoryStore())
        house = sync.House(store=store)
        peer = sync.Peer(house, "yjs")
        await peer.join()
        await house.send("DOC_PATCH", patch(add("/a", 1)))
        await peer.sync()
        store.fail["append"] = StoreError("disk full")
        with pytest.raises(StoreError):
            await house.send("DOC_PATCH", patch(add("/lost", 1)))
        await peer.sync()
        assert peer.replica.json() == {"a": 1}
        await house.send("DOC_PATCH", patch(add("/b", 2)))
        await peer.sync()
        assert peer.replica.json() == {"a": 1, "b": 2}
        await house.documents.close()

    sync.run(main())


def test_a_peers_edit_that_could_not_be_logged_is_asked_for_again(sync):
    """After a failed append the home asks its peers (sync step 1), so that nothing stays behind."""

    async def main():
        store = Broken(MemoryStore())
        house = sync.House(store=store)
        peer = sync.Peer(house, "yjs")
        await peer.join()
        await peer.sync()
        peer.replica.set({"a": 1})
        store.fail["append"] = StoreError("disk full")
        with pytest.raises(StoreError):
            await peer.push()
        await peer.sync()
        await house.send("DOC_PATCH", b"[]", "agui")
        await house.settle()
        assert house.states("agui") == [("STATE_SNAPSHOT", {"snapshot": {"a": 1}})]
        await house.documents.close()

    sync.run(main())


def test_a_home_that_was_fenced_reloads_and_goes_on(sync):
    """Two homes over one store take turns; each write lands once, peers of both see all."""

    async def main():
        store = MemoryStore()
        left, right = sync.House(store=store), sync.House(store=store)
        one, two = sync.Peer(left, "one"), sync.Peer(right, "two")
        await one.join()
        await two.join()
        for index in range(6):
            house = (left, right)[index % 2]
            await house.send(
                "DOC_PATCH", patch(add(f"/k{index}", index), add("/list", []) if index == 0 else add("/list/-", index))
            )
        for peer in (one, two, one):
            await peer.sync()
        await left.send("DOC_PATCH", patch(add("/end", 1)))
        await one.sync()
        assert one.replica.json() == {**{f"k{index}": index for index in range(6)}, "list": [1, 2, 3, 4, 5], "end": 1}
        assert left.probe.counts["documents.fenced"] + right.probe.counts["documents.fenced"] >= 5
        for house in (left, right):
            await house.documents.close()

    sync.run(main())


@pytest.mark.parametrize("call", ["get", "put", "trim", "read"])
def test_a_failing_compaction_loses_nothing(sync, call):
    """Whichever step of it fails, everything acknowledged is there afterwards."""

    async def main():
        store = Broken(MemoryStore())
        house = sync.House(store=store)
        for index in range(498):
            await house.send("DOC_PATCH", patch(add(f"/k{index % 50}", index)))
        store.fail[call] = StoreError("no")
        for index in range(498, 520):
            try:
                await house.send("DOC_PATCH", patch(add(f"/k{index % 50}", index)))
            except StoreError:
                await house.send("DOC_PATCH", patch(add(f"/k{index % 50}", index)))
        await house.settle()
        assert call not in store.fail
        await house.documents.close()
        house = sync.House(store=store)
        await house.send("DOC_PATCH", b"[]", "agui")
        await house.settle()
        ((_, event),) = house.states("agui")
        assert event["snapshot"] == {f"k{index % 50}": index for index in range(470, 520)}
        await house.documents.close()

    sync.run(main())


def test_a_stale_home_cannot_put_an_old_snapshot_over_a_newer(sync):
    """Its compaction is refused, and the document is whole."""

    async def main():
        store = MemoryStore()
        old, new = sync.House(store=store), sync.House(store=store)
        for index in range(499):
            await old.send("DOC_PATCH", patch(add("/n", index)))
        for index in range(499, 1_010):
            await new.send("DOC_PATCH", patch(add("/n", index)))
        await new.settle()
        room = old.documents._rooms["t", "d"]
        with pytest.raises(Fenced):
            await room.archive.compact(room._whole)
        third = sync.House(store=store)
        await third.send("DOC_PATCH", patch({"op": "test", "path": "/n", "value": 1_009}))
        for house in (old, new, third):
            await house.documents.close()

    sync.run(main())


def test_concurrent_edits_share_group_commits(sync):
    """Edits that come while the log is written are logged together."""

    async def main():
        store = Broken(MemoryStore())
        house = sync.House(store=store)
        await asyncio.gather(*(house.send("DOC_PATCH", patch(add(f"/k{index}", index))) for index in range(100)))
        assert store.calls.count("append") <= 4
        await house.send("DOC_PATCH", patch(*({"op": "test", "path": f"/k{i}", "value": i} for i in range(100))))
        await house.documents.close()

    sync.run(main())


def test_a_sqlite_store_keeps_documents_over_a_restart(sync, tmp_path):
    """Content, deletions and the ability to merge old clients survive; real files, real time."""

    async def main():
        replica = Replica("d")
        prints = []
        for generation in range(3):
            store = SqliteStore(tmp_path / "laneway.db")
            await store.open()
            house = sync.House(store=store, policy=SyncPolicy(tick_s=0.001, state_tick_s=0.001))
            peer = sync.Peer(house, "one")
            peer.replica = replica
            await peer.join()
            replica.set({"generation": generation, "list": list(range(generation))})
            replica.insert_text(0, f"{generation}é")
            replica.delete_text(1, 1)
            await peer.push()
            await house.send("DOC_PATCH", patch(add("/patched", generation)))
            async with asyncio.timeout(30):
                while replica.json().get("patched") != generation:
                    await house.settle(0.001)
                    await peer.pull()
            prints.append(replica.fingerprint())
            await house.documents.close()
            await store.close()
        store = SqliteStore(tmp_path / "laneway.db")
        await store.open()
        house = sync.House(store=store)
        fresh = sync.Peer(house, "fresh")
        await fresh.join()
        async with asyncio.timeout(30):
            while "patched" not in fresh.replica.json():
                await house.settle(0.001)
                await fresh.pull()
        assert fresh.replica.fingerprint() == replica.fingerprint() == prints[-1]
        assert fresh.replica.json() == {"generation": 2, "list": [0, 1], "patched": 2}
        assert fresh.replica.text() == "210"
        await house.documents.close()
        await store.close()

    asyncio.run(main())


def typing(count, client=77):
    """DOC_SYNC bodies of a client that types, one character each, and its replica."""
    replica, bodies = Replica("d", client), []
    for number in range(count):
        replica.insert_text(number, "abcde"[number % 5])
        bodies += replica.changes()
    return replica, bodies


async def send_all(sync, house, events):
    """Handle events together; returns the answers and what was emitted to their senders."""
    contexts = [house.rig.Context(env) for env in events]
    answers = await house.documents.handle_all(events, contexts)
    return answers, [context.outs for context in contexts]


def test_what_came_together_is_one_record_and_each_has_its_own_answer(sync):
    """Edits of one author are one record and one telling; a bad one among them, a patch and another document
    are answered as they would be alone, in order."""

    async def main():
        store = Broken(MemoryStore())
        house = sync.House(store=store)
        reader = sync.Peer(house, "reader")
        await reader.join()
        await reader.sync()
        author, bodies = typing(20)
        events = [house.event("DOC_SYNC", body, "author") for body in bodies]
        events.insert(7, house.event("DOC_SYNC", encode_message(MessageType.UPDATE, b"\x01"), "author"))
        events.append(house.event("DOC_PATCH", patch(add("/a", 1)), "author"))
        events.insert(3, house.event("DOC_SYNC", typing(1, 5)[1][0], "author", doc="other"))
        before = store.calls.count("append")
        answers, _ = await send_all(sync, house, events)
        assert [type(answer) for answer in answers if answer] == [PeerProtocolError]
        assert isinstance(answers[8], PeerProtocolError)
        assert store.calls.count("append") - before == 3
        assert house.documents._rooms["t", "d"].archive._seq == 2
        await reader.sync()
        assert reader.replica.text() == author.text()
        assert reader.replica.json() == {"a": 1}
        await house.documents.close()

    sync.run(main())


def test_a_gap_among_edits_is_asked_for_once_each(sync):
    """One that waits is answered as alone: its sender is asked for what is missing; the next ones close the gap."""

    async def main():
        house = sync.House()
        author, bodies = typing(6)
        order = [bodies[0], bodies[2], bodies[1], *bodies[3:]]
        answers, outs = await send_all(sync, house, [house.event("DOC_SYNC", body, "author") for body in order])
        assert answers == [None] * 6
        assert [len(told) for told in outs] == [0, 1, 0, 0, 0, 0]
        assert house.probe.counts["documents.gap"] == 1
        reader = sync.Peer(house, "reader")
        await reader.join()
        await reader.sync()
        assert reader.replica.text() == author.text()
        await house.documents.close()

    sync.run(main())


def joint(update, part):
    """`part` if its first item is among those of `update`."""
    ((client, clock, *_),) = parse_update(part).structs
    return (
        part
        if any(each.client == client and each.clock <= clock < each.clock + each.length for each in update.structs)
        else None
    )


class Choosy(YjsEngine):
    """A library that breaks on one update."""

    def __init__(self, bad):
        self.bad = bad

    def open(self, name, client_id):
        document = super().open(name, client_id)
        apply = document.apply

        def choosy(updates):
            for place, update in enumerate(updates):
                if self.bad in (update.raw, joint(update, self.bad)):
                    apply(updates[:place])
                    raise PeerProtocolError("the library broke midway", reason="BAD_UPDATE")
            return apply(updates)

        document.apply = choosy
        return document


@pytest.mark.parametrize("joined", [False, True])
def test_one_that_breaks_the_library_fails_alone(sync, joined):
    """Those that were to be applied with it, or were joined with it, are applied each by itself; what was half done
    is thrown away."""

    async def main():
        author, bodies = typing(5)
        if not joined:
            for number in range(4):
                author.set({f"k{number}": number, **author.json()})
                bodies += author.changes()
        other, others = typing(3, 88)
        bad = decode_message(bodies[-1]).payload
        house = sync.House(engine=Choosy(bad))
        events = [house.event("DOC_SYNC", body, "author") for body in bodies]
        events += [house.event("DOC_SYNC", body, "author") for body in others]
        answers, _ = await send_all(sync, house, events)
        good = [None] * (len(bodies) - 1)
        assert [getattr(answer, "reason", None) for answer in answers] == [*good, "BAD_UPDATE", None, None, None]
        reader = sync.Peer(house, "reader")
        await reader.join()
        await reader.sync()
        text = "abcd" if joined else "abcde"
        assert sorted(reader.replica.text()) == sorted(text + other.text())
        assert reader.replica.json() == ({} if joined else {"k0": 0, "k1": 1, "k2": 2})
        await house.documents.close()

    sync.run(main())


def test_edits_that_were_fenced_are_made_once_more(sync):
    """Another home wrote meanwhile: none of them was in the log, so all are made again there, once."""

    async def main():
        store = MemoryStore()
        left, right = sync.House(store=store), sync.House(store=store)
        author, bodies = typing(8)
        events = [left.event("DOC_SYNC", body, "author") for body in bodies]
        assert (await send_all(sync, left, events[:4]))[0] == [None] * 4
        await right.send("DOC_PATCH", patch(add("/a", 1)))
        assert (await send_all(sync, left, events[4:]))[0] == [None] * 4
        assert left.probe.counts["documents.fenced"] == 1
        reader = sync.Peer(left, "reader")
        await reader.join()
        await reader.sync()
        assert (reader.replica.text(), reader.replica.json()) == (author.text(), {"a": 1})
        for house in (left, right):
            await house.documents.close()

    sync.run(main())


def test_edits_that_could_not_be_logged_all_say_so(sync):
    """Each has the store's error, nobody is told, and sent again they are made."""

    async def main():
        store = Broken(MemoryStore())
        house = sync.House(store=store)
        reader = sync.Peer(house, "reader")
        await reader.join()
        await reader.sync()
        author, bodies = typing(5)
        events = [house.event("DOC_SYNC", body, "author") for body in bodies]
        store.fail["append"] = StoreError("disk full")
        answers, _ = await send_all(sync, house, events)
        assert [type(answer) for answer in answers] == [StoreError] * 5
        await reader.sync()
        assert reader.replica.text() == ""
        assert (await send_all(sync, house, events))[0] == [None] * 5
        await reader.sync()
        assert reader.replica.text() == author.text()
        await house.documents.close()

    sync.run(main())
