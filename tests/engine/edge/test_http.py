"""The HTTP server: where it listens, with which TLS, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from pathlib import Path

import pytest

from laneway.engine.edge.asgi import Endpoint
from laneway.engine.edge.exchange import Exchange
from laneway.engine.edge.http import HttpEdge, HttpPolicy
from laneway.engine.edge.probes import Alive
from laneway.engine.tls import Tls
from laneway.routing.errors import ConfigError
from tests.engine.edge.certificates import Authority
from tests.engine.edge.driver import app

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def edge(*routes: Endpoint, **policy: object) -> HttpEdge:
    return HttpEdge(app(Endpoint("GET", "/healthz", Alive(), public=True), *routes), HttpPolicy(**policy))  # type: ignore[arg-type]


async def fetched(port: int, context: ssl.SSLContext | None = None) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(REQUEST)
    answer = await reader.read()
    writer.transport.abort()
    return answer


def test_it_listens_and_stops() -> None:
    """On a free port; closing is idempotent and leaves no connection."""

    async def main() -> None:
        server = edge()
        assert server.port == 0
        port = await server.start()
        assert b"date: " in await fetched(port)
        _, idle = await asyncio.open_connection("127.0.0.1", port)
        await server.close()
        await server.close()
        assert server.connections == 0
        with pytest.raises(ConnectionRefusedError):
            await fetched(port)
        idle.transport.abort()

    asyncio.run(main())


def test_a_port_that_is_taken_is_named() -> None:
    """A ConfigError, not an exit."""

    async def main() -> None:
        first = edge()
        port = await first.start()
        with pytest.raises(ConfigError, match=str(port)):
            await edge(port=port).start()
        await first.close()

    asyncio.run(main())


def test_tls_is_1_3_only(tmp_path: Path) -> None:
    """A 1.2 client and plain text are refused, a 1.3 client that trusts the root is served."""
    authority = Authority(tmp_path)
    cert, key = authority.leaf("server")

    async def main() -> None:
        server = edge(tls=Tls(cert, key))
        port = await server.start()
        context = ssl.create_default_context(cafile=str(authority.root))
        context.check_hostname = False
        assert b"ok" in await fetched(port, context)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await fetched(port, context)
        assert b"ok" not in await fetched(port)
        await server.close()

    asyncio.run(main())


def test_client_certificates_are_asked_for(tmp_path: Path) -> None:
    """Without one, or with one of somebody else, there is no answer."""
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    cert, key = authority.leaf("server")

    async def main() -> None:
        server = edge(tls=Tls(cert, key, authority.root))
        port = await server.start()
        for issuer in (authority, other, None):
            context = ssl.create_default_context(cafile=str(authority.root))
            context.check_hostname = False
            if issuer is not None:
                context.load_cert_chain(*issuer.leaf("client"))
            try:
                answer = await fetched(port, context)
            except (ssl.SSLError, ConnectionResetError):
                answer = b""
            assert (b"ok" in answer) is (issuer is authority)
        await server.close()

    asyncio.run(main())


@pytest.mark.parametrize("broken", ["cert", "key", "client_ca"])
def test_unusable_tls_files_are_a_config_error(tmp_path: Path, broken: str) -> None:
    """Before anything listens."""
    cert, key = Authority(tmp_path).leaf("server")
    files = {"cert": cert, "key": key, broken: tmp_path / "none.pem"}
    with pytest.raises(ConfigError, match="TLS files"):
        asyncio.run(edge(tls=Tls(**files)).start())


def test_a_drain_lets_answers_end() -> None:
    """A request in progress gets its answer within the grace; a request that does not end is cancelled."""
    entered = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        entered.set()
        await asyncio.sleep(0.2)
        await exchange.respond(200, {}, b"done")

    async def stuck(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        server = edge(Endpoint("GET", "/slow", slow), Endpoint("GET", "/stuck", stuck))
        port = await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST.replace(b"/healthz", b"/slow"))
        other, writing = await asyncio.open_connection("127.0.0.1", port)
        writing.write(REQUEST.replace(b"/healthz", b"/stuck"))
        await entered.wait()
        await server.drain(3.0)
        assert (await reader.read()).endswith(b"done")
        with contextlib.suppress(ConnectionResetError):
            assert b" 200 " not in await other.read()
        for each in (writer, writing):
            each.transport.abort()

    asyncio.run(main())


def test_urls_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """They may hold tickets; nor may a peer write our log with bad requests."""
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        server = edge()
        port = await server.start()
        for line in (b"GET /healthz?ticket=secret", b"GET /ws?ticket=secret", b"NONSENSE secret"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(line + b" HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
            writer.write(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
            await reader.read()
            writer.transport.abort()
        await server.close()

    asyncio.run(main())
    assert "secret" not in caplog.text
