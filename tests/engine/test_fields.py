"""Fields: addresses, and settings that nothing may change after the start."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from laneway.engine.fields import Address
from laneway.engine.sections import EdgeConfig, LimitsConfig


@given(st.ip_addresses().map(str), st.integers(0, 65_535))
def test_addresses_round_trip(host: str, port: int) -> None:
    """Any IPv4 or IPv6 address is read back from its own text."""
    address = Address(host, port)
    assert EdgeConfig(grpc=str(address), insecure=True).grpc == address  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", ":1", "host", "host:", "host:-1", "host:x", "host:٣", "host:65536", "a:b:c:"])
def test_nonsense_is_no_address(text: str) -> None:
    """What is not HOST:PORT is refused with an example."""
    with pytest.raises(ValidationError, match=r"127\.0\.0\.1:7700"):
        EdgeConfig(grpc=text)  # type: ignore[arg-type]


def test_sections_are_frozen() -> None:
    """A running engine's settings cannot be changed under it."""
    with pytest.raises(ValidationError, match="frozen"):
        LimitsConfig().depth = 3  # type: ignore[misc]
