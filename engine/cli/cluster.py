"""`laneway cluster`: the hosts of a Ray cluster, for its operator.

Law of this file: it looks and asks; what is done is `RayCluster`'s. It never starts a Ray or a cluster.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias, TypeVar

import typer

from laneway.engine.cli.terminal import show_table

if TYPE_CHECKING:
    from laneway.engine.runtime.ray_cluster import RayCluster

__all__ = ["cluster"]

cluster = typer.Typer(no_args_is_help=True, help="The hosts of a Ray cluster: status, scale, drain, stop.")

_T = TypeVar("_T")
_Address: TypeAlias = Annotated[
    str | None, typer.Option("--address", help="HOST:PORT of the Ray head; default: RAY_ADDRESS, else this machine's.")
]
_Cluster: TypeAlias = Annotated[str | None, typer.Option("--cluster", help="Its name; default: laneway.")]
_File: TypeAlias = Annotated[
    Path | None, typer.Option("--config", help="TOML file, as for serve; its section runtime counts.")
]
_DrainS: TypeAlias = Annotated[float, typer.Option("--drain-s", min=0, help="Seconds that runs may still take.")]
_COLUMNS: Final = ("name", "role", "state", "node", "pid", "incarnation", "pools", "load", "version", "last beat")


@cluster.command()
def status(
    address: _Address = None,
    cluster: _Cluster = None,
    config: _File = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
) -> None:
    """Show all hosts. Exit code 1 if one of them does not serve."""
    rows = _with(address, cluster, config, _look)
    if as_json:
        typer.echo(json.dumps(rows))
    else:
        show_table(
            _COLUMNS,
            [[str(row[column]) for column in _COLUMNS] for row in rows],
            styles={"ready": "green", "starting": "yellow", "failed": "red"},
            empty="no hosts",
        )
        for row in rows:
            if row["failure"]:
                typer.echo(row["failure"])
    if any(row["state"] != "ready" for row in rows):
        raise typer.Exit(1)


@cluster.command()
def scale(
    pool: str,
    hosts: Annotated[int, typer.Argument(min=1, max=1_024)],
    address: _Address = None,
    cluster: _Cluster = None,
    config: _File = None,
    drain_s: _DrainS = 30.0,
) -> None:
    """Bring a pool to so many hosts; surplus ones are drained first."""
    names = _with(address, cluster, config, lambda ours: ours.scale(pool, hosts, drain_s=drain_s))
    typer.echo(f"{pool}: {len(names)} hosts: {', '.join(names)}")


@cluster.command()
def drain(
    host: str, address: _Address = None, cluster: _Cluster = None, config: _File = None, drain_s: _DrainS = 30.0
) -> None:
    """Let a host (host/POOL/N) end what it does, then stop it for good."""
    if _with(address, cluster, config, lambda ours: ours.drain(host, drain_s=drain_s)):
        typer.echo(f"{host} has drained and is stopped")
    else:
        typer.echo(f"{host} did not answer and was stopped")


@cluster.command()
def stop(address: _Address = None, cluster: _Cluster = None, config: _File = None, drain_s: _DrainS = 30.0) -> None:
    """Drain and stop all hosts, and end the cluster; engines that are part of it are told so."""
    ended = _with(address, cluster, config, lambda ours: ours.stop(drain_s=drain_s))
    typer.echo(f"the cluster is stopped; {ended} hosts have ended")


def _with(
    address: str | None, name: str | None, config: Path | None, work: Callable[[RayCluster], Awaitable[_T]]
) -> _T:
    """Do something with the cluster that is meant. Raises ConfigError, RuntimeUnavailable."""
    import asyncio
    import os

    from laneway.engine.config import Config
    from laneway.engine.runtime.ray_cluster import RayCluster

    settings = Config.load(config, overrides={"runtime": {"address": address, "cluster": name}}).runtime
    if not settings.address and not os.environ.get("RAY_ADDRESS"):
        settings = settings.model_copy(update={"address": "auto"})

    async def main() -> _T:
        ours = RayCluster(settings, owned=False)
        await ours.open(create=False)
        try:
            return await work(ours)
        finally:
            await ours.close()

    return asyncio.run(main())


async def _look(ours: RayCluster) -> list[dict[str, Any]]:
    import asyncio

    roll = await ours.registry.roll()
    names = await ours.hosts()
    told = dict(zip(names, await asyncio.gather(*(_asked(ours, name) for name in names)), strict=True))
    rows = []
    for member, silent_s in roll.heard:
        says = told.pop(member.name, {"state": "ready"})
        row = {**member._asdict(), "last beat": f"{silent_s:.1f} s", **_state(says)}
        rows.append({**row, "node": member.node[:12], "pools": ", ".join(member.pools)})
    for name, says in told.items():
        row = {**dict.fromkeys((*_COLUMNS, "address"), ""), "name": name, "role": "pool", **_state(says)}
        rows.append({**row, "pid": says.get("pid", "")})
    return rows


async def _asked(ours: RayCluster, name: str) -> dict[str, Any]:
    from laneway.routing.errors import RuntimeUnavailable

    try:
        return dict(await ours.statistics(name))
    except RuntimeUnavailable as error:
        return {"state": "starting", "failure": error.message}


def _state(says: dict[str, Any]) -> dict[str, Any]:
    load = says.get("load")
    shown = f"{load:.0%}" if isinstance(load, int | float) else ""
    return {"state": says.get("state", ""), "failure": says.get("failure", ""), "load": shown}
