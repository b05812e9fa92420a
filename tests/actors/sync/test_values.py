"""JSON values: what may be stored, and when two are the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.sync.values import JsonLimits, canonical, check, parse_json, plain, same
from laneway.routing.errors import PeerProtocolError

scalars = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(-9, 9), st.text("ab", max_size=2))
values = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text("ab", max_size=2), inner))
)


@given(values, values)
def test_equal_means_equal_text(one, other):
    """`same` and `canonical` agree once numbers are in their one form."""
    one, other = check(one), check(other)
    assert same(one, one)
    assert same(one, other) == (canonical(one) == canonical(other))
    assert same(parse_json(json.dumps(one).encode()), one)


def test_numbers_have_one_form_and_types_stay_apart():
    """5.0 is 5; true is not 1; 0.5 stays."""
    value = parse_json(b"[5.0, -0.0, 0.5, true, 1e3]")
    assert value == [5, 0, 0.5, True, 1000]
    assert [type(item) for item in value] == [int, int, float, bool, int]
    assert not same(True, 1)
    assert same(1, 1.0)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (2**63, "NUMBER_RANGE"),
        (float("nan"), "NON_FINITE"),
        ("\ud800", "BAD_UTF8"),
        ({"\0": 1}, "BAD_UTF8"),
        ({1: 2}, "BAD_KEY"),
        ({"a": b"x"}, "BAD_TYPE"),
        ([[[1]]], "DEPTH_EXCEEDED"),
    ],
)
def test_what_may_not_be_stored_is_refused(value, reason):
    """Everything that makes the CRDT panic, and what no wire carries."""
    with pytest.raises(PeerProtocolError) as caught:
        check(value, JsonLimits(depth=2))
    assert caught.value.reason == reason


def test_what_a_crdt_gives_becomes_json():
    """Any value of any peer has a JSON form."""
    given_ = {"n": 5.0, "nan": float("nan"), "b": bytearray(b"\x01\x02"), "o": object(), "l": [1.5, None, True]}
    assert plain(given_) == {"n": 5, "nan": None, "b": [1, 2], "o": None, "l": [1.5, None, True]}
