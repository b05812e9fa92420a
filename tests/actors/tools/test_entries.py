"""What the ledger writes: equal calls are equal, records survive the way back, and what was cut says so."""

from __future__ import annotations

import hashlib
import json

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.tools.entries import CallKey, Settled, digest, pack_entry, to_keep, unpack_entry
from laneway.actors.tools.lifecycle import State

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


def _plainly(value):
    """The order of a map's keys, by the rule and without a short cut."""
    if isinstance(value, dict):
        return [[key, _plainly(value[key])] for key in sorted(value)]
    return [_plainly(item) for item in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4), st.randoms())
def test_the_hash_is_of_the_ordered_call(arguments, random):
    """Whatever the order and whatever the packer: of name and arguments with the keys of each map in order."""
    keys = list(arguments)
    random.shuffle(keys)
    plain = hashlib.blake2b(msgpack.packb(["t", _plainly(arguments)]), digest_size=16).digest()
    assert digest("t", {key: arguments[key] for key in keys}) == plain
    assert digest("t", arguments, msgpack.Packer().pack) == plain


def test_the_hash_ignores_key_order_and_sees_the_name():
    """Equal calls hash equal whatever order a client wrote its map in."""
    assert digest("t", {"a": 1, "b": [{"c": 2, "d": 3}]}) == digest("t", {"b": [{"d": 3, "c": 2}], "a": 1})
    assert digest("t", {}) != digest("u", {})
    assert digest("t", {"a": "1"}) != digest("t", {"a": 1})


def test_ids_cannot_be_made_to_look_like_anothers_place():
    """Parts are escaped; a named key has a place of its own."""
    assert CallKey("a/b", "c", "d", "e").text != CallKey("a", "b/c", "d", "e").text
    assert CallKey("a", "b", "", "e").text != CallKey("a", "b", "", "e", named=True).text


def test_a_record_says_what_it_was_told():
    """An intent has no result; a result comes back as it was, or as what is kept of it."""
    assert unpack_entry(pack_entry(State.RUNNING, b"h")) == (State.RUNNING, b"h", None)
    failed = Settled(State.FAILED, "{}", "TOOL_ERROR", True)
    assert unpack_entry(pack_entry(State.FAILED, b"h", failed)) == (State.FAILED, b"h", failed)
    large = Settled(State.SUCCEEDED, "x" * 65_537)
    kept = unpack_entry(pack_entry(State.SUCCEEDED, b"h", large))[2]
    assert kept == to_keep(large) == to_keep(to_keep(large))
    assert (kept.code, json.loads(kept.content)["error"]["code"]) == ("RESULT_NOT_KEPT", "RESULT_NOT_KEPT")
