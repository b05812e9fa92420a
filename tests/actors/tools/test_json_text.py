"""JSON text by one encoder: the text and the errors of `json.dumps`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.tools.json_text import json_encoder

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(st.lists(VALUES, max_size=3))
def test_it_is_the_text_of_json_dumps(values):
    """Of whatever was encoded before."""
    encode = json_encoder()
    for value in values:
        assert encode(value) == json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize("value", [object(), {"a": {1, 2}}, [float("nan")], {(1, 2): 3}])
def test_what_is_no_json_is_refused_and_leaves_nothing(value):
    """With the error of `json.dumps`; the same object may be encoded once it is good."""
    encode = json_encoder(allow_nan=False)
    holder = [value]
    with pytest.raises((TypeError, ValueError)) as ours:
        encode(holder)
    with pytest.raises(type(ours.value)):
        json.dumps(holder, allow_nan=False)
    holder[0] = 1
    assert encode(holder) == "[1]"


def test_a_circle_is_refused():
    """As often as it comes."""
    encode, circle = json_encoder(), []
    circle.append({"again": circle})
    for _ in range(2):
        with pytest.raises(ValueError, match="Circular"):
            encode(circle)
