"""Where a pool runs, and on how many hosts.

Law of this file: one place answers it, from the settings first (the operator's word), then from what
the embedder said, then by default. With the local runtime everything runs in this process, whatever
was said; documents and publications always run on fronts, where the sessions are.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from laneway.routing.errors import ConfigError

if TYPE_CHECKING:
    from laneway.engine.config import RuntimeConfig

__all__ = ["DRIVER", "FRONT_POOLS", "HOSTS", "Placement", "host_bounds", "placement_of", "strangers"]

Placement: TypeAlias = Literal["hosts", "driver"]
HOSTS: Final = "hosts"
"""On hosts of its own; what it runs is named by import path."""
DRIVER: Final = "driver"
"""In the engine's own process."""
FRONT_POOLS: Final = ("state", "publish")
"""Pools that are about sessions, and stay with them."""


def placement_of(runtime: RuntimeConfig, pool: str, asked: str = HOSTS) -> Placement:
    """Return where a pool runs.

    Args:
        asked: what the embedder said.

    Raises:
        ConfigError: there is no such place, or the pool cannot be there.
    """
    said = runtime.placement.get(pool)
    if said is None and asked not in (HOSTS, DRIVER):
        raise ConfigError(f"pool {pool!r} cannot be placed on {asked!r}; choose hosts or driver")
    if pool in FRONT_POOLS and said == HOSTS:
        raise ConfigError(f"runtime.placement: pool {pool!r} stays with the sessions; leave it out")
    if runtime.kind == "local" or pool in FRONT_POOLS:
        return "driver"
    return "driver" if (said or asked) == DRIVER else "hosts"


def host_bounds(runtime: RuntimeConfig, pool: str, hosts: int = 1, max_hosts: int | None = None) -> tuple[int, int]:
    """Return how many hosts a pool has at the start, and how many at most.

    Args:
        hosts, max_hosts: what the embedder said; the settings win.

    Raises:
        ConfigError: no host at all, or fewer at most than at the start.
    """
    begin = runtime.hosts.get(pool, hosts)
    most = runtime.max_hosts.get(pool, max_hosts if max_hosts is not None else begin)
    if not 1 <= begin <= most:
        raise ConfigError(
            f"pool {pool!r} begins with {begin} hosts and has {most} at most; give 1 <= hosts <= max_hosts"
        )
    return begin, most


def strangers(runtime: RuntimeConfig, pools: Collection[str]) -> list[str]:
    """Return the settings that name a pool there is not: a misspelt one, or one that is yet to be added.

    Args:
        pools: the names of those there are.
    """
    named: dict[str, Collection[str]] = {
        "hosts": runtime.hosts,
        "max_hosts": runtime.max_hosts,
        "placement": runtime.placement,
        "resources": runtime.resources,
    }
    return [f"runtime.{field}.{pool}" for field, said in named.items() for pool in sorted(set(said) - set(pools))]
