"""The pools an embedder adds, and what was said about each.

Law of this file: a pool is checked and added at once, wherever it will run; what it was made from is
kept, so that another process can be told. A decorated function gets its import path only after the
decorator has run, so paths are asked for later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from laneway.actors.pools.pool import PoolSpec
from laneway.engine.app.handlers import adapt
from laneway.engine.app.placements import HOSTS, Placement, host_bounds, placement_of
from laneway.engine.imports import load_callable, path_of
from laneway.routing.classify import IN, Kind, KindTable
from laneway.routing.lanes import Lane

if TYPE_CHECKING:
    from laneway.engine.config import RuntimeConfig

__all__ = ["AddedPool", "AddedPools", "PoolOptions"]


class PoolOptions(TypedDict, total=False):
    """Options of `Engine.pool`; see `PoolSpec` for what the first seven mean.

    Attributes:
        placement: "hosts" (default) or "driver": in the engine's own process; only read on Ray.
        hosts: at the start, there. max_hosts: it may be scaled to; default: as many as at the start.
    """

    cells: int
    concurrency: int
    keyed: str
    batch: bool
    streams_input: bool
    target_wait_s: float | None
    tenant_share: float
    placement: str
    hosts: int
    max_hosts: int | None


class AddedPool(NamedTuple):
    """One pool as it was added."""

    name: str
    kinds: tuple[str, ...]
    handler: Callable[..., Any]
    """What the embedder wrote."""
    named: str
    """The path it was given by, or empty."""
    options: Mapping[str, Any]
    """Those of `PoolSpec`."""
    placement: Placement
    hosts: int
    max_hosts: int

    @property
    def path(self) -> str | None:
        """The handler's import path, or None if it has none."""
        return self.named or path_of(self.handler)


class AddedPools:
    """The pools of one embedder, in the order of their addition.

    Args:
        kinds: grows by the kinds that pools bring.
        runtime: the operator's say about places and numbers.
        add: takes each pool; raises ConfigError if it cannot.

    Attributes:
        rows: what was added. on_change: called after each addition.
    """

    def __init__(self, kinds: KindTable, runtime: RuntimeConfig, add: Callable[[PoolSpec], object]) -> None:
        self._kinds = kinds
        self._runtime = runtime
        self._add = add
        self.rows: list[AddedPool] = []
        self.on_change: Callable[[], None] = lambda: None

    def add(
        self,
        name: str,
        kinds: Iterable[str | Kind],
        handler: Callable[..., Any] | str,
        *,
        placement: str = HOSTS,
        hosts: int = 1,
        max_hosts: int | None = None,
        **options: Any,
    ) -> Callable[..., Any]:
        """Add a pool and return its handler as a function; see `Engine.pool`. Raises ConfigError."""
        named = handler if isinstance(handler, str) else ""
        function = load_callable(handler) if isinstance(handler, str) else handler
        adapted = adapt(function, batch=options.get("batch", False))
        place = placement_of(self._runtime, name, placement)
        bounds = host_bounds(self._runtime, name, hosts, max_hosts)
        names = tuple(self._kind(kind).name for kind in kinds)
        self._add(PoolSpec(name, names, adapted, remote=place == HOSTS, **options))
        self.rows.append(AddedPool(name, names, function, named, options, place, *bounds))
        self.on_change()
        return function

    def _kind(self, kind: str | Kind) -> Kind:
        row = kind if isinstance(kind, Kind) else Kind(kind, Lane.NORMAL, direction=IN)
        if row.name not in self._kinds:
            self._kinds.add(row)
        return row if row is kind else self._kinds.require(row.name)
