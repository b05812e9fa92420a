"""Pools as an embedder adds them."""

from __future__ import annotations

from typing import Any

import pytest

from laneway import Kind, Lane
from laneway.actors.pools.pool import PoolSpec
from laneway.engine.app.additions import AddedPools
from laneway.engine.sections import RuntimeConfig
from laneway.routing.classify import KindTable
from laneway.routing.errors import ConfigError
from tests.engine.app import shop

SHOP = shop.__name__


def made(**runtime: Any) -> tuple[AddedPools, list[PoolSpec], KindTable]:
    specs: list[PoolSpec] = []
    kinds = KindTable()
    return AddedPools(kinds, RuntimeConfig(**runtime), specs.append), specs, kinds


def test_a_handler_may_be_a_path_or_a_function() -> None:
    """Both are loaded and checked at once, and both are known by their path; kinds are added."""
    pools, specs, kinds = made()
    told: list[int] = []
    pools.on_change = lambda: told.append(len(pools.rows))
    assert pools.add("a", ["ASKED"], f"{SHOP}:echo", concurrency=3) is shop.echo
    assert pools.add("b", [Kind("BULK", Lane.LOW, durable=False)], shop.echo_all, batch=True) is shop.echo_all
    assert [row.path for row in pools.rows] == [f"{SHOP}:echo", f"{SHOP}:echo_all"]
    assert [(spec.name, spec.concurrency, spec.batch, spec.remote) for spec in specs] == [
        ("a", 3, False, False), ("b", 8, True, False),
    ]  # fmt: skip
    assert kinds.require("BULK").lane == Lane.LOW
    assert told == [1, 2]


def test_a_closure_has_no_path() -> None:
    """It works where it was made, and nowhere else."""

    async def closure(event: object, context: object) -> None: ...

    pools, _, _ = made()
    pools.add("a", ["ASKED"], closure)
    assert pools.rows[0].path is None


def test_on_ray_cells_are_elsewhere_unless_placed_here() -> None:
    """`placement` and `hosts` are the pool's, the settings correct them."""
    pools, specs, _ = made(kind="ray", hosts={"a": 2}, max_hosts={"a": 4})
    pools.add("a", ["A"], shop.echo, hosts=1)
    pools.add("b", ["B"], shop.echo, placement="driver")
    pools.add("c", ["C"], shop.echo, hosts=3, max_hosts=9)
    assert [spec.remote for spec in specs] == [True, False, True]
    assert [(row.placement, row.hosts, row.max_hosts) for row in pools.rows] == [
        ("hosts", 2, 4), ("driver", 1, 1), ("hosts", 3, 9),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("handler", "options", "says"),
    [
        (f"{SHOP}:absent", {}, "has no absent"),
        (f"{SHOP}:model", {}, "cannot be called"),
        (f"{SHOP}:blocking", {}, "async def"),
        (shop.echo, {"hosts": 0}, "1 <= hosts"),
        (shop.echo, {"placement": "moon"}, "choose hosts or driver"),
        (shop.echo, {"cells": 0}, "at least one cell"),
    ],
)
def test_mistakes_show_at_once_and_nothing_is_kept(handler: Any, options: dict[str, Any], says: str) -> None:
    """As a ConfigError; neither the pool nor the row is there."""
    pools, specs, _ = made()
    with pytest.raises(ConfigError, match=says):
        pools.add("a", ["A"], handler, **options)
    assert (pools.rows, specs) == ([], [])
