"""Replicas: editing, convergence under every disorder, a raw frame client, hostile frames."""

from __future__ import annotations

import asyncio
import json
import random

import pycrdt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.engine.documents.replica import Replica
from laneway.routing.errors import LanewayError, LocalProtocolError, PeerProtocolError


def exchange(one, two):
    """Sync two replicas until neither has anything to say."""
    queue = [(two, one.hello()), (one, two.hello())]
    while queue:
        target, body = queue.pop(0)
        other = two if target is one else one
        queue.extend((other, answer) for answer in target.receive(body))


def test_text_positions_are_code_points():
    """Inserting and deleting around emoji and CJK hits what Python's str says."""
    replica, text, rng = Replica("d"), "", random.Random(1)
    for step in range(300):
        if rng.random() < 0.7 or not text:
            at, piece = rng.randint(0, len(text)), rng.choice(["a", "é", "世界", "👩‍👩‍👧", "𝒳y"])
            replica.insert_text(at, piece)
            text = text[:at] + piece + text[at:]
        else:
            at = rng.randrange(len(text))
            count = rng.randint(0, min(3, len(text) - at))
            replica.delete_text(at, count)
            text = text[:at] + text[at + count :]
        assert replica.text() == text, step
    other = Replica("d")
    exchange(replica, other)
    assert other.text() == text
    assert other.fingerprint() == replica.fingerprint()


def test_bad_edits_are_refused_and_change_nothing():
    """Ranges outside, halves of characters, what JSON cannot hold."""
    replica = Replica("d")
    replica.insert_text(0, "ab")
    replica.changes()
    for edit in (
        lambda: replica.insert_text(3, "x"),
        lambda: replica.insert_text(-1, "x"),
        lambda: replica.delete_text(1, 2),
        lambda: replica.insert_text(0, "\ud83d"),
    ):
        with pytest.raises(LocalProtocolError):
            edit()
    for state in ({"a": 2**63}, {"a": float("nan")}, {"a": "\ud800"}, {"a": object()}):
        with pytest.raises(PeerProtocolError):
            replica.set(state)
    with pytest.raises(LocalProtocolError):
        replica.patch([{"op": "add", "path": "", "value": 1}])
    assert replica.changes() == []
    assert replica.text() == "ab"


def test_changes_are_told_once_and_only_own():
    """What came from the other side is not sent back."""
    one, two = Replica("d"), Replica("d")
    one.set({"a": 1})
    one.insert_text(0, "x")
    (body,) = one.changes()
    assert one.changes() == []
    assert two.receive(body) == []
    assert two.changes() == []
    assert two.json() == {"a": 1}


def test_presence_travels():
    """Peers see each other's state; None leaves."""
    one, two = Replica("d"), Replica("d")
    two.receive(one.presence({"name": "Ada", "cursor": 3}))
    assert two.peers() == {one.client_id: {"name": "Ada", "cursor": 3}}
    two.receive(one.presence(None))
    assert two.peers() == {}


actions = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from(["set", "text", "delete", "patch", "deliver", "list"]), st.integers(0, 99)
    ),
    min_size=5,
    max_size=40,
)


def act(replica, kind, number, marks):
    """One local edit; what must not be lost goes to `marks`."""
    if kind == "set":
        replica.patch([{"op": "add", "path": f"/k{number % 5}", "value": {"v": number, "by": replica.client_id}}])
    elif kind == "list":
        if "list" not in replica.json():
            return
        mark = f"m{len(marks)}"
        marks.append(mark)
        replica.patch([{"op": "add", "path": "/list/0", "value": mark}])
    elif kind == "text":
        text = replica.text()
        mark = f"<{len(marks)}é👋>"
        marks.append(mark)
        replica.insert_text(number % (len(text) + 1) if "<" not in text else 0, mark)
    elif kind == "delete":
        gone = sorted(key for key in replica.json() if key.startswith("k"))
        if gone:
            replica.patch([{"op": "remove", "path": "/" + gone[number % len(gone)]}])


@settings(max_examples=60, deadline=None)
@given(actions, st.integers(0, 2**32))
def test_replicas_converge_whatever_the_network_does(pool_of, script, seed):
    """Delayed, doubled, reordered Yjs updates mixed with patches at the home; an anti-entropy round at the end.

    All replicas and the home are equal by Yjs snapshot (delete set included) and by canonical JSON,
    nothing waits for a gap, and every mark that was inserted is there.
    """

    async def main():
        pool, rng = pool_of(), random.Random(seed)
        replicas = [Replica("d", 10 + index) for index in range(4)]
        await pool.send("agent", "DOC_PATCH", json.dumps([{"op": "add", "path": "/list", "value": []}]).encode())
        for index, replica in enumerate(replicas):
            await pool.send(f"s{index}", "DOC_SYNC", replica.hello())
        await pool.quiet()
        upward: list[tuple[int, bytes]] = []
        downward: list[tuple[int, bytes]] = []
        marks: list[str] = []

        def collect():
            for index, replica in enumerate(replicas):
                upward.extend((index, body) for body in replica.changes())
                downward.extend((index, body) for kind, body in pool.take(f"s{index}") if kind == "DOC_SYNC")

        async def deliver(some):
            """Deliver a random part, in random order, some of it twice."""
            rng.shuffle(upward)
            rng.shuffle(downward)
            for index, body in [upward.pop() for _ in range(round(len(upward) * some))]:
                for _ in range(1 + (rng.random() < 0.2)):
                    await pool.send(f"s{index}", "DOC_SYNC", body)
            for index, body in [downward.pop() for _ in range(round(len(downward) * some))]:
                for _ in range(1 + (rng.random() < 0.2)):
                    upward.extend((index, answer) for answer in replicas[index].receive(body))
            await pool.quiet()

        for which, kind, number in script:
            if kind == "deliver":
                collect()
                await deliver(rng.random())
            elif kind == "patch":
                mark = f"m{len(marks)}"
                marks.append(mark)
                rows = [
                    {"op": "add", "path": f"/k{number % 5}", "value": number},
                    {"op": "add", "path": "/list/-", "value": mark},
                ]
                await pool.send("agent", "DOC_PATCH", json.dumps(rows).encode())
            else:
                act(replicas[which], kind, number, marks)
        for _ in range(4):
            for index, replica in enumerate(replicas):
                await pool.send(f"s{index}", "DOC_SYNC", replica.hello())
            await pool.quiet()
            while True:
                collect()
                if not upward and not downward:
                    break
                await deliver(1.0)
        fresh = Replica("d")
        await pool.send("fresh", "DOC_SYNC", fresh.hello())
        await pool.quiet()
        for kind, body in pool.take("fresh"):
            if kind == "DOC_SYNC":
                fresh.receive(body)
        assert {replica.pending for replica in (*replicas, fresh)} == {0}
        assert pool.documents.statistics().pending == 0
        assert len({replica.fingerprint() for replica in (*replicas, fresh)}) == 1
        assert len({replica.canonical() for replica in (*replicas, fresh)}) == 1
        assert len({replica.text() for replica in (*replicas, fresh)}) == 1
        found = fresh.text() + " ".join(fresh.json()["list"]) + " "
        for mark in marks:
            assert mark in (found if mark[0] == "<" else found.replace(">", "> ").split(" ")), mark
        await pool.documents.close()

    asyncio.run(main())


class RawClient:
    """A Yjs client on bytes: framing by hand, one map key and its clock; no CRDT, no protocol helpers."""

    def __init__(self, client: int) -> None:
        self.client, self.clock = client, 0
        self.updates: list[bytes] = []
        self.vectors: list[bytes] = []

    @staticmethod
    def number(value: int) -> bytes:
        out = b""
        while value >= 0x80:
            out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
        return out + bytes([value])

    def framed(self, step: int, payload: bytes) -> bytes:
        return b"\x00" + bytes([step]) + self.number(len(payload)) + payload

    def put(self, key: str, text: str) -> bytes:
        """The update frame that sets state[key] = text as this client's next struct."""
        name, data = key.encode(), text.encode()
        struct = b"\x28\x01\x05state" + self.number(len(name)) + name + b"\x01\x77" + self.number(len(data)) + data
        block = b"\x01\x01" + self.number(self.client) + self.number(self.clock) + struct
        self.clock += 1
        return self.framed(2, block + b"\x00")

    def receive(self, body: bytes) -> None:
        assert body[0] == 0
        size = shift = 0
        at = 2
        while True:
            size |= (body[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if body[at - 1] < 0x80:
                break
        payload = body[at:]
        assert len(payload) == size
        (self.vectors if body[1] == 0 else self.updates).append(payload)


def test_a_client_on_raw_bytes_syncs(pool_of):
    """Hand-made frames subscribe, edit and receive; stock pycrdt reads what the home sent."""

    async def main():
        pool, raw, replica = pool_of(), RawClient(300), Replica("d", 7)
        await pool.send("raw", "DOC_SYNC", raw.framed(0, b"\x00"))
        await pool.send("py", "DOC_SYNC", replica.hello())
        await pool.quiet()
        await pool.send("raw", "DOC_SYNC", raw.put("greeting", "héllo 👋"))
        await pool.send("raw", "DOC_SYNC", raw.put("n", "1"))
        await pool.quiet()
        for _, body in pool.take("py"):
            for answer in replica.receive(body):
                await pool.send("py", "DOC_SYNC", answer)
        assert replica.json() == {"greeting": "héllo 👋", "n": "1"}
        replica.set({**replica.json(), "reply": [1, 2]})
        for body in replica.changes():
            await pool.send("py", "DOC_SYNC", body)
        await pool.quiet()
        for kind, body in pool.take("raw"):
            assert kind == "DOC_SYNC"
            raw.receive(body)
        assert raw.vectors
        stock = pycrdt.Doc()
        root = stock.get("state", type=pycrdt.Map)
        for update in raw.updates:
            stock.apply_update(update)
        assert root["reply"].to_py() == [1, 2]
        assert "greeting" not in root, "its own updates are not echoed"
        await pool.documents.close()

    asyncio.run(main())


def test_stock_pycrdt_speaks_with_the_pool(pool_of):
    """A client on pycrdt's own protocol helpers, as an existing application would be."""

    async def main():
        pool = pool_of()
        doc = pycrdt.Doc()
        text = doc.get("text", type=pycrdt.Text)
        text += "from stock"
        await pool.send("stock", "DOC_SYNC", pycrdt.create_sync_message(doc))
        replica = Replica("d")
        await pool.send("ours", "DOC_SYNC", replica.hello())
        for _ in range(3):
            await pool.quiet()
            for _, body in pool.take("stock"):
                reply = pycrdt.handle_sync_message(body[1:], doc)
                if reply:
                    await pool.send("stock", "DOC_SYNC", reply)
            for _, body in pool.take("ours"):
                for answer in replica.receive(body):
                    await pool.send("ours", "DOC_SYNC", answer)
        assert replica.text() == "from stock"
        replica.insert_text(0, "hi ")
        for body in replica.changes():
            await pool.send("ours", "DOC_SYNC", body)
        await pool.quiet()
        for _, body in pool.take("stock"):
            pycrdt.handle_sync_message(body[1:], doc)
        assert str(text) == "hi from stock"
        await pool.documents.close()

    asyncio.run(main())


def test_mutated_frames_never_kill_the_pool_or_a_replica(pool_of):
    """3,000 mutants of every kind of frame: only typed errors, and honest clients still converge."""

    async def main():
        rng, pool = random.Random(7), pool_of()
        honest, victim = Replica("d", 1), Replica("d", 2)
        honest.set({"a": [1, {"b": "é"}]})
        honest.insert_text(0, "text 👋")
        seeds = [
            ("DOC_SYNC", honest.hello()),
            ("DOC_SYNC", honest.changes()[0]),
            ("DOC_SYNC", honest.receive(victim.hello())[0]),
            ("PRESENCE", honest.presence({"x": 1})),
            ("DOC_PATCH", b'[{"op":"add","path":"/a/0","value":{"x":[1,2.5,null]}}]'),
        ]
        errors = passed = 0
        for _ in range(3_000):
            kind, seed = rng.choice(seeds)
            data = bytearray(seed)
            for _ in range(rng.randint(1, 3)):
                at = rng.randrange(len(data))
                if rng.random() < 0.5:
                    data[at] = rng.randrange(256)
                elif rng.random() < 0.5:
                    del data[at : at + rng.randint(1, 3)]
                else:
                    data[at:at] = rng.randbytes(rng.randint(1, 3))
                if not data:
                    break
            try:
                await pool.send("fuzz", kind, bytes(data))
                passed += 1
            except LanewayError:
                errors += 1
            if kind != "DOC_PATCH":
                try:
                    victim.receive(bytes(data))
                except LanewayError:
                    errors += 1
        assert errors > 500
        assert passed > 100
        pool.documents.leave("t", "fuzz")
        honest = Replica("d")
        honest.set({"after": True})
        late = Replica("d")
        for index, replica in enumerate((honest, late, honest, late)):
            session = f"ok{index % 2}"
            await pool.send(session, "DOC_SYNC", replica.hello())
            for body in replica.changes():
                await pool.send(session, "DOC_SYNC", body)
            await pool.quiet()
            for kind, body in pool.take(session):
                if kind == "DOC_SYNC":
                    for answer in replica.receive(body):
                        await pool.send(session, "DOC_SYNC", answer)
        assert honest.fingerprint() == late.fingerprint()
        assert late.json()["after"] is True
        await pool.documents.close()

    asyncio.run(main())
