"""A replica with its waiting room."""

from __future__ import annotations

import itertools
import random

import pytest

from laneway.actors.sync.content import Content
from laneway.actors.sync.lib0 import varuint
from laneway.actors.sync.messages import decode_message, decode_vector
from laneway.actors.sync.patch import parse_operations
from laneway.actors.sync.update import parse_update
from laneway.engine.documents.replica import Replica
from laneway.engine.documents.yjs import YjsEngine
from laneway.routing.errors import PeerProtocolError


def content():
    return Content(YjsEngine().open("d", 1))


def edits(count):
    replica, out = Replica("d", 7), []
    for index in range(count):
        replica.set({"n": index, f"k{index}": index})
        out.extend(parse_update(decode_message(body).payload) for body in replica.changes())
    return replica, out


def test_any_order_gives_the_same_document():
    """All orders of four dependent updates; every new piece is given out exactly once."""
    replica, updates = edits(4)
    for order in itertools.permutations(updates):
        target, mirror = content(), content()
        for update in order:
            done = target.integrate(update)
            for fresh in ([done.fresh] if done.fresh else []) + done.released:
                assert not mirror.integrate(parse_update(fresh)).held
        assert target.pending == 0
        assert target.document.fingerprint() == replica.fingerprint() == mirror.document.fingerprint()


def test_what_is_known_is_not_fresh():
    """A duplicate gives nothing to log or to tell."""
    _, updates = edits(2)
    target = content()
    assert target.integrate(updates[0]).fresh
    assert target.integrate(updates[0]).fresh == b""
    assert target.integrate(updates[0]).held is False


def test_what_waits_is_part_of_the_whole():
    """The snapshot and what waits make the same content again."""
    replica, updates = edits(3)
    target = content()
    target.integrate(updates[0])
    target.integrate(updates[2])
    again = content()
    again.load(target.whole())
    assert again.pending == 1
    again.integrate(updates[1])
    assert again.document.fingerprint() == replica.fingerprint()


def test_a_stored_update_that_cannot_be_applied_does_not_lock_the_document():
    """It is passed over and counted; the rest is there."""
    replica, updates = edits(2)
    target = content()
    # well formed for us, but embeds text that is not JSON, which the library refuses
    bad = varuint(1) + varuint(1) + varuint(9) + varuint(0) + b"\x05\x01\x01x" + b"\x01{" + varuint(0)
    parse_update(bad)
    target.load([updates[0].raw, bad, updates[1].raw])
    assert target.refused == 1
    assert not target.spoiled
    assert target.document.fingerprint() == replica.fingerprint()
    with pytest.raises(PeerProtocolError, match="BAD_UPDATE"):
        target.integrate(parse_update(bad))
    assert target.spoiled


@pytest.mark.parametrize("seed", range(12))
def test_what_is_known_is_what_the_document_says(seed):
    """After any updates in any order, repeats, merges, deletions and own patches: the vector is the document's own."""
    random_ = random.Random(seed)
    engine, target = YjsEngine(), content()
    writers = [Replica("d", client) for client in (7, 8, 9)]
    updates = []
    for _ in range(40):
        writer = random_.choice(writers)
        text = writer.text()
        if text and random_.random() < 0.3:
            writer.delete_text(random_.randrange(len(text)), 1)
        else:
            writer.insert_text(random_.randint(0, len(text)), random_.choice(["a", "bc", "\U0001f600"]))
        made = writer.changes()
        updates += [decode_message(body).payload for body in made]
        for other in random_.sample(writers, 2):
            for body in made:
                other.receive(body)
    updates += random_.sample(updates, 10)
    updates += [engine.merge(random_.sample(updates, 5)) for _ in range(5)]
    random_.shuffle(updates)
    for raw in updates:
        target.integrate(parse_update(raw))
        if random_.random() < 0.2:
            target.patch(parse_operations([{"op": "add", "path": "/n", "value": random_.random()}]))
        assert target.vector() == decode_vector(target.document.vector())
    assert target.pending == 0
