"""The pycrdt document: patches made real, traps stopped, hostile bytes survived, memory given back."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import subprocess
import sys
import weakref
from collections import Counter

import pycrdt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.actors.sync.content import Content
from laneway.actors.sync.patch import apply, diff, parse_operations
from laneway.actors.sync.update import parse_update
from laneway.actors.sync.values import canonical, check, same
from laneway.engine.documents.yjs import YjsDocument, YjsEngine, byte_index, stop_panics
from laneway.routing.errors import LanewayError, PeerProtocolError

scalars = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.sampled_from([0.5, 2**60, "é😀"]), st.text("ab/~"))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text("ab/~", max_size=2), inner, max_size=4)
    ),
    max_leaves=8,
)
states = st.dictionaries(st.text("ab/~", max_size=2), values, max_size=4)


def add(path, value):
    return {"op": "add", "path": path, "value": value}


def patched(document, *rows):
    return document.patch(parse_operations(list(rows)))


@settings(max_examples=80, deadline=None)
@given(st.lists(states, min_size=1, max_size=4))
def test_patches_make_the_document_what_plain_json_says(steps):
    """After each patch the JSON is the patched JSON, and a replica fed the updates is equal."""
    document, mirror = YjsDocument("d", 1), YjsDocument("d", 2)
    plain = {}
    for state in steps:
        operations = parse_operations(diff(plain, check(state)))
        plain = apply(plain, operations)
        update = document.patch(operations)
        if update:
            mirror.apply([parse_update(update)])
        assert same(document.json(), plain)
    assert document.fingerprint() == mirror.fingerprint()
    assert canonical(document.json()) == canonical(mirror.json())


OPERATIONS = [
    [{"op": "move", "from": "/a/0", "path": "/b/x"}],
    [{"op": "copy", "from": "/b", "path": "/a/-"}],
    [{"op": "move", "from": "/a/1", "path": "/a/0"}],
    [{"op": "replace", "path": "/b", "value": {"y": [1, {"z": 2}]}}],
    [{"op": "replace", "path": "/a/1", "value": "s"}],
    [{"op": "remove", "path": "/a/0"}, {"op": "add", "path": "/a/0", "value": {"n": {}}}],
    [{"op": "replace", "path": "", "value": {"a": [1], "b": {}}}],
    [{"op": "test", "path": "/b/x", "value": 1}, {"op": "remove", "path": "/b/x"}],
    [{"op": "copy", "from": "", "path": "/whole"}],
    [{"op": "add", "path": "/b", "value": {"x": True}}],
]


@pytest.mark.parametrize("rows", OPERATIONS, ids=lambda rows: rows[0]["op"] + rows[0]["path"])
def test_every_operation_has_the_same_effect_as_on_plain_json(rows):
    """Also on values that another client stored as plain objects, not as shared types."""
    before = {"a": [{"k": 1}, 2, [3]], "b": {"x": 1, "y": {"z": [1, 2]}}}
    for blob in (False, True):
        document = YjsDocument("d", 1)
        if blob:
            root = document.doc.get("state", type=pycrdt.Map)
            for key, value in before.items():
                root[key] = value
            document.taken()
        else:
            patched(document, add("", before))
        operations = parse_operations(rows)
        document.patch(operations)
        assert same(document.json(), apply(before, operations))


def test_replacing_an_object_leaves_no_tombstone_forest():
    """2,000 replacements of a nested object stay small (replaced as a whole: 15 bytes each, for ever)."""
    document = YjsDocument("d", 1)
    for index in range(2_000):
        patched(document, add("/o", {"a": 1, "b": {"c": index}}))
    assert len(document.snapshot()) < 500


def test_a_string_over_a_shared_text_edits_it():
    """Concurrent typing in the text survives a patch of another part of it."""
    one, two = YjsDocument("d", 1), YjsDocument("d", 2)
    root = one.doc.get("state", type=pycrdt.Map)
    root["t"] = pycrdt.Text("héllo wörld")
    for raw in one.taken():
        two.apply([parse_update(raw)])
    first = patched(one, {"op": "replace", "path": "/t", "value": "héllo, wörld 👋"})
    second = patched(two, {"op": "replace", "path": "/t", "value": "Héllo wörld"})
    one.apply([parse_update(second)])
    two.apply([parse_update(first)])
    assert one.json() == two.json() == {"t": "Héllo, wörld 👋"}


def test_numbers_read_back_as_they_were():
    """The library gives doubles; integers come back as integers."""
    document = YjsDocument("d", 1)
    patched(document, add("/n", [5, -1, 0, 2**52, 2**60, 0.5, True]))
    read = document.json()["n"]
    assert read == [5, -1, 0, 2**52, 2**60, 0.5, True]
    assert [type(item) for item in read] == [int] * 5 + [float, bool]


def test_panics_become_typed_errors_and_cancellation_does_not():
    """A native panic is a BaseException; so is CancelledError, which must pass."""
    doc = pycrdt.Doc()
    root = doc.get("state", type=pycrdt.Map)
    for value in (2**63, "\ud800", {1: 2}, object()):
        with pytest.raises(PeerProtocolError, match="BAD_UPDATE"), stop_panics("a test"):
            root["k"] = value
    for error in (asyncio.CancelledError, KeyboardInterrupt):
        with pytest.raises(error), stop_panics("a test"):
            raise error


def test_code_points_become_byte_offsets():
    """What the library calls an index."""
    assert [byte_index("aé世👋", index) for index in range(5)] == [0, 1, 3, 6, 10]
    assert byte_index("plain", 3) == 3


def test_foreign_content_is_projected_somehow():
    """XML, bytes, NaN and subdocuments from other clients have a JSON form; patches may replace them."""
    document = YjsDocument("d", 1)
    root = document.doc.get("state", type=pycrdt.Map)
    root["xml"] = pycrdt.XmlFragment()
    root["bytes"] = b"ab"
    root["nan"] = float("nan")
    root["sub"] = pycrdt.Doc(guid="g")
    document.taken()
    before = document.json()
    assert before["bytes"] == [97, 98]
    assert before["nan"] is None
    assert before["sub"] == {"guid": "g"}
    rows = [add("/bytes/0", 1), add("/sub/x", 1), add("/xml", {}), add("/nan", 1.5)]
    operations = parse_operations(rows)
    document.patch(operations)
    assert same(document.json(), apply(before, operations))


def test_unknown_state_vectors_are_refused():
    """A malformed vector is the peer's fault, whatever the library would say."""
    document = YjsDocument("d", 1)
    assert document.diff(b"\x00") == b"\x00\x00"
    for bad in (b"", b"\xff\xff\xff\xff\x0f", b"\x01\x05"):
        with pytest.raises(PeerProtocolError):
            document.diff(bad)


def seeds():
    """Updates with one of everything."""
    doc, updates = pycrdt.Doc(client_id=5), []
    doc.observe(lambda event: updates.append(event.update))
    root = doc.get("state", type=pycrdt.Map)
    root["any"] = {"x": [1, 2.5, None, True, "é😀", 2**60, {"y": []}]}
    root["map"] = pycrdt.Map({"k": pycrdt.Array([1, pycrdt.Map({"z": pycrdt.Text("t😀")})])})
    text = doc.get("text", type=pycrdt.Text)
    text.insert(0, "hello é😀 world")
    text.format(0, 5, {"bold": True})
    text.insert_embed(3, {"image": [1]})
    del text[1:4]
    doc.get("xml", type=pycrdt.XmlFragment).children.append(pycrdt.XmlElement("p", {"c": "x"}, []))
    root["sub"] = pycrdt.Doc()
    del root["any"]
    return [*updates, doc.get_update()]


def mutated(rng, data):
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(out):
            out[at] = rng.randrange(256)
        elif kind == 1 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            out[at:at] = bytes(rng.choices(range(256), k=rng.randint(1, 4)))
        elif kind == 3:
            del out[at : at + rng.randint(1, 4)]
        else:
            other = rng.choice(SEEDS)
            out[at:] = other[rng.randrange(len(other)) :]
    return bytes(out)


SEEDS = seeds()


def test_mutated_updates_are_applied_or_refused_and_never_crash():
    """8,000 mutants: only typed errors; what is applied reads back from a snapshot exactly."""
    rng = random.Random(20261121)
    outcomes: Counter[str] = Counter()
    content = Content(YjsDocument("d", 1))
    for index in range(8_000):
        if index % 50 == 0:
            content.close()
            content = Content(YjsDocument("d", 1))
            content.load(SEEDS[: rng.randrange(len(SEEDS))])
        try:
            done = content.integrate(parse_update(mutated(rng, rng.choice(SEEDS))))
            outcomes["held" if done.held else "applied"] += 1
            if index % 10 == 0:
                content.document.json()
        except LanewayError as error:
            outcomes[error.reason] += 1
            if content.spoiled:
                content = Content(YjsDocument("d", 1))
    assert outcomes["applied"] > 100
    assert outcomes["held"] > 100
    assert outcomes["TRUNCATED"] > 1_000


KILLERS = """
import sys
from laneway.actors.sync.content import Content
from laneway.actors.sync.lib0 import var_bytes, varuint
from laneway.actors.sync.update import parse_update
from laneway.engine.documents.yjs import YjsDocument
from laneway.routing.errors import PeerProtocolError
import pycrdt

def item(content, body):
    return b"\\1\\1\\5\\0" + bytes([0x20 | content, 1]) + var_bytes(b"state") + b"\\1a" + body + b"\\0"

def nested(first, count):
    parts = []
    for level in range(first, first + count):
        place = b"\\x27\\1\\5state" if level == 0 else b"\\x27\\0\\5" + varuint(level - 1)
        parts.append(place + b"\\1a\\1")
    return varuint(1) + varuint(count) + b"\\5" + varuint(first) + b"".join(parts) + b"\\0"

case = sys.argv[1]
content = Content(YjsDocument("d", 1))
updates = {
    "deep-any": [item(8, b"\\1" + bytes([117, 1]) * 200_000 + b"\\x7e")],
    "deep-chain": [nested(0, 30_000)],
    "deep-chain-in-steps": [nested(first, 100) for first in range(0, 30_000, 100)],
}[case]
refused = 0
for raw in updates:
    if len(sys.argv) > 2:
        content.document.doc.apply_update(raw)  # what would happen without us
        continue
    try:
        content.integrate(parse_update(raw))
    except PeerProtocolError:
        refused += 1
content.document.json()
assert refused
print("alive")
"""


@pytest.mark.parametrize("case", ["deep-any", "deep-chain", "deep-chain-in-steps"])
def test_updates_that_kill_the_library_do_not_kill_us(case):
    """Each overflows the native stack (SIGSEGV) when given to pycrdt as is; here it is refused."""
    environment = {**os.environ, "RUST_BACKTRACE": "0"}

    def run(*arguments):
        command = [sys.executable, "-c", KILLERS, case, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)

    ours = run()
    assert (ours.returncode, ours.stdout) == (0, "alive\n"), ours.stderr
    assert run("unguarded").returncode < 0, "the library survives now; the guard may be relaxed"


def test_a_closed_document_is_freed():
    """Nothing holds it: not the observer, not its closure."""
    engine = YjsEngine()
    alive = []
    for index in range(20):
        document = engine.open("d", index + 1)
        patched(document, add("/a", index))
        alive.append(weakref.ref(document))
        document.close()
        document.close()
        del document
    gc.collect()
    assert sum(ref() is not None for ref in alive) == 0


def test_merging_updates_gives_their_sum():
    """One update with the effect of all."""
    document, mirror = YjsDocument("d", 1), YjsDocument("d", 2)
    updates = [patched(document, add(f"/k{index}", index)) for index in range(50)]
    mirror.apply([parse_update(YjsEngine().merge(updates))])
    assert mirror.fingerprint() == document.fingerprint()
    assert YjsEngine().merge(updates[:1]) == updates[0]
