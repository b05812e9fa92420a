"""The order for a host: as plain data, the same from every front, and no more than a pool needs."""

from __future__ import annotations

import pytest

from laneway import Config, Engine
from laneway.engine.app.orders import HostOrder, needed
from laneway.engine.app.registrations import Registrations
from laneway.routing.errors import ConfigError
from tests.engine.app import hands, shop

CONFIG = Config.model_validate(
    {
        "runtime": {"kind": "ray", "lost_s": 4.0},
        "tools": {"workers": 3},
        "store": {"url": "secret.db"},
        "auth": {"mode": "jwt", "issuer": "i", "audience": "a", "secret": "s" * 40},
    }
)


def told() -> Registrations:
    engine = Engine(CONFIG, store="memory")
    engine.tools.add(hands.where)
    engine.nlp.use("tests.engine.app.hands:Talker")
    engine.pool("here", ["HERE"], hands.here, concurrency=3)
    engine.pool("echo", ["ECHO"], shop.echo)
    return engine.registrations()


def test_an_order_travels_as_bytes_and_is_the_same_from_every_front() -> None:
    """Hosts that run already are recognised by these bytes."""
    order = HostOrder("here", CONFIG, told())
    packed = order.to_bytes()
    own = {"store": {"url": "redis://h"}, "runtime": {"lost_s": 4.0}, "telemetry": {"log_level": "debug"}}
    other = Config.model_validate({**CONFIG.model_dump(), **own})
    assert packed == HostOrder("here", other, told()).to_bytes()
    assert packed == HostOrder("here", CONFIG, told()).to_bytes()
    read = HostOrder.from_bytes(packed)
    assert (read.pool, read.config.tools.workers, read.config.runtime.lost_s) == ("here", 3, 4.0)
    assert read.told.pool("here").options == {"concurrency": 3}


def test_a_host_is_told_what_its_pool_needs() -> None:
    """No credentials, no other pools, tools for the tools pool only, the model for nlp only."""
    assert b"secret" not in HostOrder("here", CONFIG, told()).to_bytes()
    here, tools, nlp = (needed(told(), pool) for pool in ("here", "tools", "nlp"))
    assert [pool.name for pool in here.pools] == ["here"]
    assert (len(here.tools), here.model, [spec.name for spec in here.specs]) == (0, "", ["where"])
    assert ([tool.name for tool in tools.tools], tools.model) == (["where"], "")
    assert (len(nlp.tools), nlp.model) == (0, "tests.engine.app.hands:Talker")


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\xa1a\xa1{\xc0", b"\x91\x01"])
def test_what_another_version_wrote_is_refused(data: bytes) -> None:
    """With a sentence that says what to do."""
    with pytest.raises(ConfigError, match="same version"):
        HostOrder.from_bytes(data)
