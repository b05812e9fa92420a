"""`laneway tail`: what passes through an engine, live, one line an event.

Law of this file: what was not seen is said: events that passed too fast, and an engine that was away or
started anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeAlias

import typer

from laneway.engine.cli.dialling import Ca, Target, TokenFile, dial
from laneway.engine.cli.terminal import printable

__all__ = ["tail"]

_POLL_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 5.0

_Names: TypeAlias = list[str] | None


def tail(
    grpc: Target = "127.0.0.1:7700",
    token_file: TokenFile = None,
    tls_ca: Ca = None,
    kind: Annotated[_Names, typer.Option(help="Only this kind; repeatable; TEXT_* for all that begin so.")] = None,
    session: Annotated[_Names, typer.Option(help="Only this session; likewise.")] = None,
    run: Annotated[_Names, typer.Option(help="Only this run; likewise.")] = None,
    tenant: Annotated[_Names, typer.Option(help="Only this tenant; likewise.")] = None,
    lane: Annotated[_Names, typer.Option(help="Only this lane: critical, high, normal, low; repeatable.")] = None,
    direction: Annotated[str, typer.Option(help="Only what goes in, or only what goes out: in, out.")] = "",
    min_bytes: Annotated[int, typer.Option(min=0, help="Only bodies of at least so many bytes.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Show what is kept (up to 500 events) and leave.")] = False,
) -> None:
    """Follow the events of an engine (scope admin); bodies are not shown.

    All filters must fit; of a repeated one, any. They are applied in the engine.
    """
    import asyncio
    from contextlib import suppress

    wanted = {
        "kinds": kind or [],
        "sessions": session or [],
        "runs": run or [],
        "tenants": tenant or [],
        "lanes": lane or [],
        "direction": direction,
        "min_bytes": min_bytes,
    }
    with suppress(KeyboardInterrupt):
        asyncio.run(_follow(dial(grpc, token_file, tls_ca), wanted, as_json, once))


async def _follow(client: Any, wanted: Mapping[str, Any], as_json: bool, once: bool) -> None:
    import asyncio

    from laneway.routing.errors import LanewayError

    place: dict[str, Any] = {}
    pause_s = _POLL_S
    away = False
    while True:
        try:
            page = await client.call("tail", **wanted, **place)
        except LanewayError as error:
            if not place or not error.retryable:
                raise
            if not away:
                _notice("away", f"the engine does not answer ({error.code}); waiting for it", as_json)
            away, pause_s = True, min(2 * pause_s, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)
            continue
        _show(page, place.get("engine", page["engine"]), away, as_json)
        place, pause_s, away = {"after": page["last"], "engine": page["engine"]}, _POLL_S, False
        if page["more"]:
            continue
        if once:
            return
        await asyncio.sleep(_POLL_S)


def _show(page: Mapping[str, Any], engine: str, away: bool, as_json: bool) -> None:
    if page["engine"] != engine:
        _notice("restarted", "the engine was started anew; what passed before that and was not shown is lost", as_json)
    elif away:
        _notice("back", "the engine answers again", as_json)
    if page["missed"]:
        said = f"{page['missed']} events (of all kinds) passed too fast to be shown"
        _notice("missed", said, as_json, missed=page["missed"])
    for row in page["events"]:
        typer.echo(json.dumps(row) if as_json else _line(row))


def _notice(name: str, said: str, as_json: bool, **more: Any) -> None:
    """Say what happened in the stream itself, where it happened."""
    typer.echo(json.dumps({"notice": name, "message": said, **more}) if as_json else f"-- {said} --")


def _line(row: Mapping[str, Any]) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(row["at"]))
    arrow = "->" if row["direction"] == "in" else "<-"
    where = f"{row['tenant']}/{row['session']}" + (f" run={row['run']}" if row["run"] else "")
    trace = f" trace={row['trace_id']}" if row["trace_id"] else ""
    return printable(f"{at} {arrow} {row['kind']:<22} {row['lane']:<8} {row['bytes']:>7} B  {where}{trace}")
