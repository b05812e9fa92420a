"""Addresses of Redis servers."""

from __future__ import annotations

import pytest

from laneway.engine.stores.redis_address import Address
from laneway.routing.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("redis://host", "redis://host:6379/0"),
        ("redis://user:w%40rd@10.0.0.1:7000/3", "redis://10.0.0.1:7000/3"),
        ("rediss://:word@[::1]:7000", "rediss://[::1]:7000/0"),
        ("rediss://host/1?ssl_ca_certs=/etc/ca.pem", "rediss://host:6379/1"),
    ],
)
def test_a_label_says_where_and_not_who(url: str, label: str) -> None:
    """Neither it nor the representation holds credentials or options."""
    address = Address.parse(url)
    assert address.label == label
    assert "w%40rd" not in repr(address)
    assert address.url == url


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis:host",
        "http://host",
        "redis://u:hush@host:none",
        "redis://u:hush/hush@host",
        "redis://u:hush@host/name",
        "redis://u:hush@host/0?retry=1",
        "redis://u:hush@host/0?ssl_ca_certs=x",
        "redis://u:hush@host/0#1",
        "redis://u:hush@[host",
    ],
)
def test_a_bad_address_is_refused_and_not_quoted(url: str) -> None:
    """The message names the setting, and keeps the password."""
    with pytest.raises(ConfigError, match=r"store\.url") as refused:
        Address.parse(url)
    assert "hush" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_password_is_scrubbed_in_every_spelling() -> None:
    """As it is written in the address, and as it is sent."""
    address = Address.parse("redis://user:a%2Fb%40c@host")
    assert address.scrub("cannot use a/b@c or a%2Fb%40c") == "cannot use [redacted] or [redacted]"
    assert Address.parse("redis://host").scrub("as it is") == "as it is"
