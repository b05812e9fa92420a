"""Metrics as Prometheus gets them: curl on /metrics of an engine that real clients have used."""

from __future__ import annotations

import asyncio
import re
import subprocess

from laneway import Config, Engine
from laneway.engine.client import Client
from tests.outside import require

SYNTHETIC = Config.model_validate({"nlp": {"model": "tests.engine.app.shop:make_model"}})


def _value(text: str, series: str) -> float:
    (line,) = re.findall(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
    return float(line)


async def _scraped(port: int, *options: str) -> tuple[str, str]:
    """Head and body of the answer."""
    curl = require("curl", package="curl")
    process = await asyncio.create_subprocess_exec(
        curl, "-sS", "-i", "--max-time", "20", *options, f"http://127.0.0.1:{port}/metrics", stdout=subprocess.PIPE
    )
    out, _ = await process.communicate()
    head, _, body = out.decode().partition("\r\n\r\n")
    return head, body


async def _refused(target: str, engine: Engine) -> None:
    """One more client, until it was turned away."""
    client = Client(target, session="t")
    trying = asyncio.create_task(client.__aenter__())
    while not engine.telemetry.traffic["grpc"].closed["refused"]:  # noqa: ASYNC110 - nobody announces it
        await asyncio.sleep(0.01)
    trying.cancel()
    await asyncio.gather(trying, return_exceptions=True)
    await client.close()


def test_connections_and_bytes_of_every_transport_are_seen() -> None:
    """A client that says goodbye has left; one that is refused counts with its code; active falls back to 0."""

    async def main() -> None:
        async with Engine(SYNTHETIC) as engine:
            grpc, http = await engine.serve_grpc(max_streams=1), await engine.serve_http()
            async with Client(f"127.0.0.1:{grpc.port}", session="s") as client:
                await client.send("hello")
                async for event in client:
                    if event.ends_run:
                        break
                _, during = await _scraped(http.port)
                await _refused(f"127.0.0.1:{grpc.port}", engine)
            while grpc.streams:  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.01)
            head, after = await _scraped(http.port)
        assert head.startswith("HTTP/1.1 200")
        assert "content-type: text/plain; version=0.0.4; charset=utf-8" in head.lower()
        assert _value(during, 'laneway_connections_active{transport="grpc"}') == 1
        assert _value(during, 'laneway_connections_capacity{transport="grpc"}') == 1
        assert _value(after, 'laneway_connections_active{transport="grpc"}') == 0
        assert _value(after, 'laneway_connections_closed_total{transport="grpc",result="left"}') == 1
        assert _value(after, 'laneway_connections_closed_total{transport="grpc",result="refused"}') >= 1
        assert _value(after, 'laneway_connection_errors_total{code="OVERLOADED"}') >= 1
        for direction in ("received", "sent"):
            assert _value(after, f'laneway_{direction}_bytes_total{{transport="grpc"}}') > 50
        assert _value(after, 'laneway_sent_bytes_total{transport="http"}') > 20_000
        assert _value(after, 'laneway_runs_ended_total{outcome="finished"}') == 1

    asyncio.run(main())


def test_metrics_are_for_operators() -> None:
    """Whoever has not the scope admin gets 403, and no numbers."""
    from laneway.actors.ports import Principal

    async def main() -> None:
        async with Engine(SYNTHETIC) as engine:
            http = await engine.serve_http(authenticate=lambda headers: Principal("somebody"))
            head, body = await _scraped(http.port)
        assert head.startswith("HTTP/1.1 403")
        assert "laneway_" not in body

    asyncio.run(main())
