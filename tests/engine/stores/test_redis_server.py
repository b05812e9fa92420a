"""What a server says about itself."""

from __future__ import annotations

import pytest

from laneway.engine.stores.redis_server import Server
from laneway.routing.errors import ConfigError

SOUND = {"redis_version": "7.0.15", "run_id": "r", "role": "master", "aof_enabled": "1", "connected_slaves": "0"}
ALWAYS = {"appendfsync": "always", "no-appendfsync-on-rewrite": "no"}


def lacks(info: dict[str, str], config: dict[str, str], assumed: bool = False) -> str:
    return Server.of(SOUND | info, config).lacks(assumed)


@pytest.mark.parametrize(
    ("info", "says"),
    [
        ({"redis_version": "6.2.14"}, "7.0 or newer"),
        ({"cluster_enabled": "1"}, "cluster"),
        ({"role": "slave"}, "replica"),
        ({"maxmemory": "1000", "maxmemory_policy": "allkeys-lru"}, "maxmemory-policy noeviction"),
        ({"maxmemory": "1000", "maxmemory_policy": "volatile-ttl"}, "maxmemory-policy noeviction"),
    ],
)
def test_a_server_that_forgets_by_design_is_refused(info: dict[str, str], says: str) -> None:
    """With the way out in the message."""
    with pytest.raises(ConfigError, match=says):
        Server.of(SOUND | info, ALWAYS).check("redis://host")


def test_a_server_that_stands_alone_is_taken() -> None:
    """Also one with bounded memory that refuses writes beyond it, and one whose policy never applies."""
    for info in ({}, {"maxmemory": "9", "maxmemory_policy": "noeviction"}, {"maxmemory_policy": "allkeys-lru"}):
        Server.of(SOUND | info, ALWAYS).check("redis://host")


def test_only_a_sync_before_each_answer_is_durable() -> None:
    """Everything less says what is missing."""
    assert lacks({}, ALWAYS) == ""
    assert "appendonly yes" in lacks({"aof_enabled": "0"}, ALWAYS)
    assert "appendfsync everysec" in lacks({}, ALWAYS | {"appendfsync": "everysec"})
    assert "appendfsync no" in lacks({}, ALWAYS | {"appendfsync": "no"})
    assert "rewrites" in lacks({}, ALWAYS | {"no-appendfsync-on-rewrite": "yes"})
    assert "CONFIG GET" in lacks({}, {})
    assert "2 replicas" in lacks({"connected_slaves": "2"}, ALWAYS)


def test_what_cannot_be_seen_may_be_vouched_for_and_nothing_else() -> None:
    """An operator's word does not stand against what the server says."""
    assert lacks({}, {}, assumed=True) == ""
    assert lacks({"aof_enabled": "0"}, {}, assumed=True) == ""
    assert lacks({"connected_slaves": "2"}, ALWAYS, assumed=True) == ""
    assert lacks({}, ALWAYS | {"appendfsync": "everysec"}, assumed=True)
    assert lacks({"aof_enabled": "0"}, ALWAYS, assumed=True)
    assert lacks({}, ALWAYS | {"no-appendfsync-on-rewrite": "yes"}, assumed=True)
