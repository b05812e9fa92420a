"""The document rules, on their own; `test_codec.py` has the whole table through the decoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.engine.limits import Limits
from laneway.engine.values import check_values, scan
from laneway.routing.errors import PeerProtocolError

documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=20),
    max_leaves=60,
)


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(PeerProtocolError) as caught:
        call()
    return caught.value.reason


@given(documents, st.binary(max_size=3), st.binary(max_size=3))
def test_scan_finds_the_end_of_any_value(document: object, before: bytes, after: bytes) -> None:
    """The walk over the bytes agrees with the packer on where a value ends."""
    packed = msgpack.packb(document, unicode_errors="surrogatepass")
    assert scan(before + packed + after, len(before), Limits()) == len(before) + len(packed)


@pytest.mark.parametrize("limits", [Limits(values=3), Limits(elements=3), Limits(depth=1)])
def test_both_checks_know_the_same_limits(limits: Limits) -> None:
    """What the bytes are refused for, the built document is refused for too."""
    document = {"a": [1, 2, 3, 4]}
    assert refused(lambda: scan(msgpack.packb(document), 0, limits)) == refused(lambda: check_values(document, limits))


def test_check_values_survives_any_depth() -> None:
    """A Python object nested 100,000 deep is refused, not recursed into."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert refused(lambda: check_values(deep)) == "DEPTH_EXCEEDED"
    while deep:  # unwound by hand: dropping it whole would recurse in the interpreter
        deep = deep.pop()


def test_a_foreign_type_cannot_travel() -> None:
    """Values other than JSON's and bytes are refused by name."""
    assert refused(lambda: check_values({"a": {1, 2}})) == "BAD_TYPE"
