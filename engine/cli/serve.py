"""`laneway serve`: an engine with its edges, until it is told to stop.

Law of this file: one line on stdout says where it listens, once it really does; SIGTERM and SIGINT
drain it within the deadline and it exits 0; a second signal ends it at once; all else it says are logs
on stderr. TLS 1.3 is enforced
before gRPC is loaded, which is why every import is inside.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from laneway.engine.cli.settings import server_config
from laneway.engine.cli.telling import told

if TYPE_CHECKING:
    import asyncio

    from laneway.engine.app.engine import Engine
    from laneway.engine.config import Config

__all__ = ["serve"]

_log: Final = logging.getLogger(__name__)


def serve(
    config: Annotated[Path | None, typer.Option(help="TOML file; LANEWAY_SECTION__FIELD variables win.")] = None,
    grpc: Annotated[
        str | None, typer.Option(help="HOST:PORT, by default 127.0.0.1:7700; port 0 = any free one.")
    ] = None,
    http: Annotated[
        str | None, typer.Option(help="HOST:PORT, by default 127.0.0.1:7701; port 0 = any free one.")
    ] = None,
    runtime: Annotated[str | None, typer.Option(help="Where pools run: local (the default), or ray: on hosts.")] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="HOST:PORT of the Ray head, or auto: this machine's Ray.")
    ] = None,
    cluster: Annotated[str | None, typer.Option(help="Engines of one name share hosts; default: laneway.")] = None,
    store: Annotated[
        str | None, typer.Option(help="Path of a sqlite file (default: laneway.db), redis://HOST, or memory.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="synthetic, scripted, local-llm, openai:URL (and #MODEL), or MODULE:NAME.")
    ] = None,
    auth: Annotated[str | None, typer.Option(help="none or jwt, whose settings are in section auth.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate chain of the edge.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its PEM key.")] = None,
    tls_client_ca: Annotated[Path | None, typer.Option(help="PEM roots of client certificates (mTLS).")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow a public address without TLS and auth.")] = False,
    drain_s: Annotated[
        float | None, typer.Option(help="Seconds that runs may still take at shutdown; default: 30.")
    ] = None,
    setup: Annotated[str, typer.Option(help="MODULE:FUNCTION that is given the Engine: adds tools, pools.")] = "",
    otlp: Annotated[str | None, typer.Option(help="URL of an OTLP/gRPC receiver, such as http://HOST:4317.")] = None,
    trace_ratio: Annotated[
        float | None, typer.Option(help="Share of events that begin a trace; default: 0.01.")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(help="json, text, or auto (the default): text on a terminal.")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info (the default), warning or error.")] = None,
) -> None:
    """Serve sessions over gRPC and HTTP. Loopback only, unless TLS and authentication are set."""
    settings = server_config(
        config,
        {
            "edge": {
                "grpc": grpc,
                "http": http,
                "tls_cert": tls_cert,
                "tls_key": tls_key,
                "tls_client_ca": tls_client_ca,
                "insecure": insecure or None,
            },
            "store": {"url": store},
            "nlp": {"model": model},
            "auth": {"mode": auth},
            "limits": {"drain_s": drain_s},
            "runtime": {"kind": runtime, "address": ray_address, "cluster": cluster},
            "telemetry": {"otlp": otlp, "sample_ratio": trace_ratio, "log_format": log_format, "log_level": log_level},
        },
    )
    with told(settings.telemetry):
        _run(settings, setup)


def _run(settings: Config, setup: str) -> None:
    """Serve on a loop of its own until a signal comes."""
    import asyncio
    import os

    from laneway.engine.runtime.loop import loop_factory

    factory = loop_factory()
    if settings.edge.tls_cert is not None or settings.runtime.tls_cert is not None:
        from laneway.engine.tls import require_tls13

        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # the refused TLS 1.2 handshake is what we want
        require_tls13()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve(settings, setup))


async def _serve(config: Config, setup: str) -> None:
    import asyncio
    import gc
    import os
    import signal
    import sys

    from laneway.engine.app.engine import Engine
    from laneway.engine.app.serving import grpc_options, http_options

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        _on_signal(loop, number, stop)
    if setup or config.nlp.model:
        sys.path.insert(0, os.getcwd())  # what is named by import path may lie beside the settings
    engine = Engine(config)
    try:
        if not await _unless(stop, _prepare(engine, setup)):
            return
        grpc = await engine.serve_grpc(**grpc_options(config))
        http = await engine.serve_http(**http_options(config))
        gc.collect()
        gc.freeze()  # what is loaded stays: without this a full collection held the critical lane up for 20-47 ms
        where = (config.edge.grpc._replace(port=grpc.port), config.edge.http._replace(port=http.port))
        typer.echo("laneway ready grpc={} http={}".format(*where))
        await stop.wait()
        _log.info("laneway drains; runs have %g s, a second signal ends it now", config.limits.drain_s)
    finally:
        await engine.close(config.limits.drain_s if stop.is_set() else 0.0)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do `work`, and say whether it was done; a signal cancels it (a download may take minutes)."""
    import asyncio

    doing, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not doing.done():
        doing.cancel()
        await asyncio.wait({doing})
        return False
    await doing
    return True


async def _prepare(engine: Engine, setup: str) -> None:
    """Load model, tools and what a former process left, before anybody can connect."""
    from laneway.engine.app.placements import HOSTS, placement_of
    from laneway.engine.cli.progress import shown

    with shown(_log.info) as progress:
        if engine.config.nlp.model:
            engine.nlp.use(engine.config.nlp.model, progress, degraded=engine.config.nlp.degraded_model or None)
        if setup:
            await _set_up(setup, engine)
        if engine.nlp.model is None:
            _log.warning("no model: runs will fail; choose one with --model")
        await engine.start()
        if placement_of(engine.config.runtime, "nlp") != HOSTS:  # each host opens its own
            await engine.nlp.open()
        await engine.recovered()


def _on_signal(loop: asyncio.AbstractEventLoop, number: int, stop: asyncio.Event) -> None:
    import signal

    def drain() -> None:
        loop.remove_signal_handler(number)  # the next one does what it always does
        stop.set()

    try:
        loop.add_signal_handler(number, drain)
    except NotImplementedError:  # Windows
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))


async def _set_up(target: str, engine: Engine) -> None:
    import inspect

    from laneway.engine.imports import load_callable
    from laneway.routing.errors import ConfigError

    try:
        function = load_callable(target)
    except ConfigError as error:
        raise ConfigError(f"--setup {error.message}") from error
    made = function(engine)
    if inspect.isawaitable(made):
        await made
