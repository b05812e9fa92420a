"""Updates of one document that are applied together: the answers and the document are those of one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.actors.sync.content import Content
from laneway.actors.sync.edits import Edit, carries_update, edits_in, first_run, parse, take_in
from laneway.actors.sync.messages import MessageType, decode_message, encode_message
from laneway.actors.sync.update import parse_update
from laneway.engine.documents.replica import Replica
from laneway.engine.documents.yjs import YjsEngine
from laneway.routing.envelope import envelope
from laneway.routing.errors import PeerProtocolError

ROOM = 10**6
CIRCLE = b"\x01\x02\x09\x00\x84\x09\x01\x01a\x84\x09\x00\x01b\x00"
"""Two items that stand on each other: well formed, and refused when it is to be applied."""


def content():
    return Content(YjsEngine().open("d", 1))


def typed(client, count, start=0):
    """Updates of a client that types; the first stands under the root."""
    replica, updates = Replica("d", client), []
    for number in range(count):
        replica.insert_text(number, "abc"[number % 3], name="text")
        updates += [parse_update(decode_message(body).payload) for body in replica.changes()]
    return updates[start:]


def outcome(target, update):
    """(held, fresh told) of one by itself; a refusal is its reason."""
    try:
        done = target.integrate(update)
    except PeerProtocolError as error:
        return error.reason, []
    return done.held, ([done.fresh] if done.fresh else []) + done.released


def together(target, edits):
    """The same for all of them, by runs."""
    answers, told = [], []
    while len(answers) < len(edits):
        run = first_run(edits, len(answers), ROOM)
        try:
            taken = take_in(target, run)
        except PeerProtocolError as error:
            assert len(run) == 1 or target.pending, "a library that refuses is told apart by its caller"
            answers.append(error.reason)
            continue
        answers += [answer.reason if isinstance(answer, PeerProtocolError) else answer for answer in taken.answers]
        told += taken.told
    return answers, told


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from([5, 6, 7]), st.integers(1, 8)),
        min_size=1,
        max_size=5,
    ),
    st.randoms(use_true_random=False),
    st.floats(0, 0.3),
)
def test_together_is_one_by_one(typing, random, disorder):
    """Authors in any mixture, gaps and repeats: the same answers, the same document, told whole to a mirror."""
    edits = [
        Edit(update, (f"s{client}", "c"), "")
        for client, count in typing
        for update in typed(client + 10 * len(typing), count)
    ]
    for at in range(1, len(edits)):
        if random.random() < disorder:
            edits[at - 1], edits[at] = edits[at], edits[at - 1]
    single, whole, mirror = content(), content(), content()
    expected = [outcome(single, edit.update) for edit in edits]
    answers, told = together(whole, edits)
    assert answers == [answer for answer, _ in expected]
    assert whole.document.fingerprint() == single.document.fingerprint()
    assert whole.pending == single.pending
    assert whole.vector() == single.vector()
    for fresh in told:
        assert not mirror.integrate(parse_update(fresh)).held
    assert mirror.document.fingerprint() == whole.document.fingerprint()
    assert len(told) <= len([fresh for _, news in expected for fresh in news])


def test_one_that_is_refused_harms_nobody_beside_it():
    """Between good ones of its author it alone has an error, and the others are one change."""
    good, bad = typed(5, 6), parse_update(CIRCLE)
    target = content()
    head = content()
    for update in good:
        head.integrate(update)
    edits = [Edit(update, ("s", "c"), "") for update in [*good[:3], bad, *good[3:]]]
    answers, told = together(target, edits)
    assert answers == [False] * 3 + ["BAD_TYPE"] + [False] * 3
    assert len(told) == 1
    assert target.document.fingerprint() == head.document.fingerprint()


def test_a_run_is_one_authors_and_bounded():
    """Another producer, 16 KiB, or the room that the document has left end it; one edit is always taken."""
    one, other = ("s", "a"), ("s", "b")
    small = parse_update(encode(b"x" * 10))
    big = parse_update(encode(b"x" * 9_000))
    edits = [
        Edit(small, one, ""),
        Edit(small, one, ""),
        Edit(small, other, ""),
        Edit(big, other, ""),
        Edit(big, other, ""),
    ]
    assert len(first_run(edits, 0, ROOM)) == 2
    assert len(first_run(edits, 2, ROOM)) == 2
    assert len(first_run(edits, 4, ROOM)) == 1
    assert len(first_run(edits, 0, len(small.raw))) == 1
    assert len(first_run(edits, 0, 0)) == 1


def encode(text: bytes) -> bytes:
    """An update of one text under a root."""
    size = bytes([len(text) & 127 | 128, len(text) >> 7]) if len(text) > 127 else bytes([len(text)])
    return b"\x01\x01\x05\x00\x04\x01\x01t" + size + text + b"\x00"


@pytest.mark.parametrize("kind", [MessageType.STEP2, MessageType.UPDATE])
def test_an_edit_is_found_in_its_event(kind):
    """Update and step 2 carry one; what is empty, faulty or something else carries none."""
    raw = encode(b"x")
    env = envelope(
        "DOC_SYNC", producer="p", counter=1, tenant="t", session="s", lane=1, trace="tr", body=encode_message(kind, raw)
    )
    assert carries_update(env)
    assert edits_in([env]) == [Edit(parse(raw), ("s", "p"), "tr")]
    for payload in (b"\0\0", b"\x01", raw + b"\0"):
        assert edits_in([(*env[:11], encode_message(kind, payload), env[12])]) == [None]
    assert not carries_update((*env[:11], encode_message(MessageType.STEP1, b"\0"), env[12]))
    assert not carries_update((*env[:2], "PRESENCE", *env[3:]))


def test_keystrokes_of_one_author_are_one_edit():
    """Up to another author, a faulty event or 128 of them; each edit says how many events it is of."""
    one, other = typed(5, 200, start=1), typed(6, 4, start=1)

    def events(updates, session):
        bodies = (encode_message(MessageType.UPDATE, update.raw) for update in updates)
        where = {"producer": "p", "counter": 1, "tenant": "t", "session": session, "lane": 1}
        return [envelope("DOC_SYNC", body=body, **where) for body in bodies]

    bad = (*events(one, "s")[0][:11], b"\0\2\1\1", 0.0)
    found = edits_in([*events(one, "s"), *events(other, "z"), bad, *events(one[:1], "s")])
    assert [edit and (edit.origin[0], edit.events) for edit in found] == [
        ("s", 128),
        ("s", 71),
        ("z", 3),
        None,
        ("s", 1),
    ]
    target, single = content(), content()
    for update in typed(5, 1) + one:
        single.integrate(update)
    target.integrate(typed(5, 1)[0])
    for edit in found[:2]:
        assert not target.integrate(edit.update).held
    assert target.document.fingerprint() == single.document.fingerprint()
