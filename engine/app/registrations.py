"""What an engine was told (kinds, pools, tools, model), as plain data that another process can act on.

Law of this file: nothing is pickled. What an embedder wrote goes by its import path, all else is
settings; what has neither cannot run on a host, and that is said before any host is started, with
everything that is in the way. Whoever acts on it imports the same code, so versions must agree.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import msgpack

from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Principal, ToolSpec
from laneway.actors.tools.catalogue import may_call
from laneway.engine.app.handlers import adapt
from laneway.engine.app.placements import HOSTS, host_bounds, placement_of
from laneway.engine.app.pools import NLP_KINDS, TOOL_KINDS
from laneway.engine.imports import load_callable, unnamed_because
from laneway.routing.classify import Kind, KindTable
from laneway.routing.errors import ConfigError, LocalProtocolError
from laneway.routing.lanes import Lane

if TYPE_CHECKING:
    from laneway.engine.app.additions import AddedPools
    from laneway.engine.app.brain import Brain
    from laneway.engine.app.toolbox import AddedTool, Toolbox
    from laneway.engine.config import RuntimeConfig

__all__ = ["PoolRow", "Registrations", "ToolRow"]

_FIX: Final = (
    "put it at module level of a module that hosts can import and add it from there, name it by import path "
    '("module:name"), or let its pool run here: runtime.placement = {"POOL": "driver"}'
)


@dataclass(frozen=True, slots=True)
class PoolRow:
    """A pool that runs on hosts.

    Attributes:
        handler: its import path; empty for nlp and tools, which every engine has.
        options: those of `PoolSpec` that were given.
        hosts: at the start. max_hosts: it may be scaled to.
    """

    name: str
    kinds: tuple[str, ...]
    handler: str
    options: Mapping[str, Any]
    hosts: int
    max_hosts: int

    def spec(self) -> PoolSpec:
        """Return the pool with its handler imported. Raises ConfigError, see `imports.load`."""
        if not self.handler:
            raise LocalProtocolError(f"pool {self.name!r} has no handler of its own; it is built into every engine")
        function = load_callable(self.handler)
        return PoolSpec(self.name, self.kinds, adapt(function, batch=self.options.get("batch", False)), **self.options)


@dataclass(frozen=True, slots=True)
class ToolRow:
    """A tool that was added by itself.

    Attributes:
        name: in the catalogue. path: what to import. options: fields of `ToolOptions` that were given.
    """

    name: str
    path: str
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Registrations:
    """All of it.

    Attributes:
        kinds: the embedder's own.
        pools: on hosts; nlp and tools first, unless they are elsewhere, then as they were added.
        tools, servers: what the tools pool is made of, if it is on hosts; servers by `MCPServer.recipe`.
        specs: the whole catalogue, which handlers may ask for wherever they run.
        model: what `Brain.use` takes, if nlp is on hosts; empty without a model.
    """

    kinds: tuple[Kind, ...] = ()
    pools: tuple[PoolRow, ...] = ()
    tools: tuple[ToolRow, ...] = ()
    servers: tuple[Mapping[str, Any], ...] = ()
    specs: tuple[ToolSpec, ...] = ()
    model: str = ""

    @classmethod
    def of(
        cls, kinds: KindTable, pools: AddedPools, tools: Toolbox, nlp: Brain, runtime: RuntimeConfig
    ) -> Registrations:
        """Collect what an engine was told. O(what was told).

        Raises:
            ConfigError: something that is to run on hosts cannot be named; it tells of all of them.
        """
        builtin = {"nlp": NLP_KINDS, "tools": TOOL_KINDS}
        there = [name for name in builtin if placement_of(runtime, name) == HOSTS]
        rows = [PoolRow(name, builtin[name], "", {}, *host_bounds(runtime, name)) for name in there]
        added = [pool for pool in pools.rows if pool.placement == HOSTS]
        unnamed = [
            f"the handler of pool {pool.name!r} {unnamed_because(pool.handler)}" for pool in added if pool.path is None
        ]
        if "nlp" in there and nlp.path is None:
            unnamed.append(f"the model {nlp.name!r} of pool 'nlp' {unnamed_because(nlp.given)}")
        if "tools" in there:
            unnamed += _unnamed_tools(tools)
        if unnamed:
            raise ConfigError(f"hosts make what they run from its import path, and {', '.join(unnamed)}: {_FIX}")
        return cls(
            tuple(kind for kind in kinds if not kind.number),
            (*rows, *(PoolRow(p.name, p.kinds, p.path or "", p.options, p.hosts, p.max_hosts) for p in added)),
            tuple(_tool_row(tool) for tool in tools.added) if "tools" in there else (),
            tuple(server.recipe or {} for server in tools.servers) if "tools" in there else (),
            tuple(tool.spec for tool in tools.catalogue),
            (nlp.path or "") if "nlp" in there else "",
        )

    def to_bytes(self) -> bytes:
        """Return it as one msgpack map."""
        packed: bytes = msgpack.packb(asdict(self), default=_plain)
        return packed

    @classmethod
    def from_bytes(cls, data: bytes) -> Registrations:
        """Return what `to_bytes` told. Raises ConfigError for what an engine of another version said."""
        try:
            read = msgpack.unpackb(data)
            return cls(
                kinds=tuple(Kind(**{**row, "lane": Lane(row["lane"])}) for row in read.pop("kinds")),
                pools=tuple(PoolRow(**{**row, "kinds": tuple(row["kinds"])}) for row in read.pop("pools")),
                tools=tuple(ToolRow(**row) for row in read.pop("tools")),
                servers=tuple(read.pop("servers")),
                specs=tuple(ToolSpec(**{**row, "scopes": frozenset(row["scopes"])}) for row in read.pop("specs")),
                **read,
            )
        except (ValueError, TypeError, KeyError, AttributeError, msgpack.UnpackException) as error:
            raise ConfigError(
                f"what an engine was told cannot be read here ({error}); run the same version of laneway on every host"
            ) from error

    def pool(self, name: str) -> PoolRow:
        """Return a pool's row. Raises ConfigError if it does not run on hosts."""
        for row in self.pools:
            if row.name == name:
                return row
        raise ConfigError(f"pool {name!r} does not run on hosts; there are: {', '.join(p.name for p in self.pools)}")

    def visible(self, principal: Principal) -> list[ToolSpec]:
        """Return the rows of the catalogue that a principal may call, by name; as `Catalogue.specs`."""
        return sorted((spec for spec in self.specs if may_call(principal, spec)), key=lambda spec: spec.name)

    async def apply(self, pools: Collection[str], *, kinds: KindTable, tools: Toolbox, nlp: Brain) -> None:
        """Bring a host that carries these pools to what the engine was told; again when it was told more.

        What is there already stays as it is, so that work under way is not disturbed.

        Raises:
            ConfigError: something cannot be imported here. ToolUnavailable, RuntimeUnavailable: an MCP
                server does not start.
        """
        for kind in self.kinds:
            if kind.name not in kinds:
                kinds.add(kind)
        if "nlp" in pools and self.model and self.model != nlp.path:
            nlp.use(self.model)
        if "tools" in pools:
            await self._equip(tools)

    async def _equip(self, tools: Toolbox) -> None:
        present = [_tool_row(tool) for tool in tools.added]
        for row in present:
            if row not in self.tools:
                tools.catalogue.remove(row.name)
        for row in self.tools:
            if row not in present:
                tools.add(row.path, **_tool_options(row))
        running = [server.recipe for server in tools.servers]
        for recipe in self.servers:
            if recipe not in running:
                from laneway.engine.tooling.mcp import MCPServer

                await tools.mcp(MCPServer.from_recipe(recipe))


def _unnamed_tools(tools: Toolbox) -> list[str]:
    told: dict[str, object] = {tool.invoker.spec.name: tool.given for tool in tools.added if tool.path is None}
    named = {tool.invoker.spec.name for tool in tools.added if tool.path is not None}
    named |= {tool.spec.name for server in tools.servers for tool in server.tools()}
    unnamed = [
        f"tool {tool.spec.name!r} {unnamed_because(told.get(tool.spec.name, tool))}"
        for tool in tools.catalogue
        if tool.spec.name not in named
    ]
    callbacks = [server.name for server in tools.servers if server.recipe is None]
    return unnamed + [f"MCP server {name!r} calls a function of yours" for name in callbacks]


def _tool_row(tool: AddedTool) -> ToolRow:
    options = {key: sorted(value) if key == "scopes" else value for key, value in tool.options.items()}
    return ToolRow(tool.invoker.spec.name, tool.path or "", options)


def _tool_options(row: ToolRow) -> dict[str, Any]:
    return {key: frozenset(value) if key == "scopes" else value for key, value in row.options.items()}


def _plain(value: object) -> object:
    """Sets travel as lists; anything else unplain is a mistake of ours or of a tool's schema."""
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise ConfigError(f"{value!r} of type {type(value).__name__} cannot be told to a host; use plain JSON values")
