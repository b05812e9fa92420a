"""One connection to a server, and every way in which it can fail."""

from __future__ import annotations

import asyncio
import builtins
import datetime
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from laneway.engine.stores.redis_address import Address
from laneway.engine.stores.redis_wire import Broken, Refused, Wire
from laneway.engine.testing.proxy import Proxy
from laneway.routing.errors import ConfigError, StoreError
from tests.redis_server import RedisServer, redis_server


def check(url: str, body: Callable[[Wire], Coroutine[Any, Any, None]], answer_s: float = 5.0) -> None:
    async def main() -> None:
        wire = Wire(Address.parse(url), connect_s=5.0, answer_s=answer_s)
        try:
            await body(wire)
        finally:
            await wire.close()
            await wire.close()

    asyncio.run(main())


def test_replies_come_in_order_and_as_bytes(server: RedisServer) -> None:
    """One that was refused stands at its place, with its code, and the others are not touched."""

    async def body(wire: Wire) -> None:
        await wire.open()
        await wire.open()
        assert wire.is_open
        replies = await wire.ask(("SET", "k", b"\xff\x00"), ("NONSENSE",), ("GET", "k"), ("EVALSHA", "0" * 40, 0))
        assert replies[0] == b"OK"
        assert replies[2] == b"\xff\x00"
        assert isinstance(replies[1], Refused)
        assert isinstance(replies[3], Refused)
        assert (replies[1].code, replies[3].code) == ("ERR", "NOSCRIPT")
        assert wire.is_open

    check(server.url, body)


def test_a_closed_wire_does_not_connect_by_itself(server: RedisServer) -> None:
    """Nothing is sent to a server that nobody has looked at."""

    async def body(wire: Wire) -> None:
        with pytest.raises(Broken):
            await wire.ask(("PING",))
        await wire.open()
        await wire.close()
        with pytest.raises(Broken):
            await wire.ask(("PING",))

    check(server.url, body)


def test_a_connection_that_ends_is_broken_and_can_be_opened_again(server: RedisServer) -> None:
    """Cut by the network, or by the server."""

    async def main() -> None:
        async with Proxy(server.port) as proxy:
            wire = Wire(Address.parse(f"redis://127.0.0.1:{proxy.port}"), connect_s=5.0, answer_s=5.0)
            for _ in range(2):
                await wire.open()
                proxy.cut()
                with pytest.raises(Broken):
                    await wire.ask(("PING",))
                assert not wire.is_open
            await wire.open()
            server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            with pytest.raises(Broken):
                await wire.ask(("PING",))
            await wire.close()

    asyncio.run(main())


def test_no_answer_in_time_is_an_unknown_outcome(server: RedisServer) -> None:
    """And the connection is closed, so that the late reply is not taken for another's."""

    async def body(wire: Wire) -> None:
        await wire.open()
        server.freeze()
        try:
            with pytest.raises(StoreError, match="unknown"):
                await wire.ask(("SET", "late", "1"))
        finally:
            server.freeze(frozen=False)
        assert not wire.is_open
        await wire.open()
        assert await wire.ask(("GET", "never")) == [None]

    check(server.url, body, answer_s=0.1)


def test_nobody_there_is_a_store_error_that_says_where() -> None:
    """The address without the password."""

    async def body(wire: Wire) -> None:
        with pytest.raises(StoreError, match=r"redis://127\.0\.0\.1:1/0 cannot be reached") as refused:
            await wire.open()
        assert "hush" not in str(refused.value)

    check("redis://user:hush@127.0.0.1:1", body)


def test_a_server_that_does_not_speak_is_a_store_error() -> None:
    """Somebody else's port: it takes the connection and says nothing."""

    async def main() -> None:
        met: list[asyncio.StreamWriter] = []
        silent = await asyncio.start_server(lambda reader, writer: met.append(writer), "127.0.0.1", 0)
        async with silent:
            port = silent.sockets[0].getsockname()[1]
            wire = Wire(Address.parse(f"redis://:word@127.0.0.1:{port}"), connect_s=0.1, answer_s=0.1)
            with pytest.raises(StoreError, match="within"):
                await wire.open()
            assert not wire.is_open
            for writer in met:
                writer.close()
                await writer.wait_closed()

    asyncio.run(main())


def test_credentials(tmp_path: Path) -> None:
    """Right ones pass; wrong and missing ones are the configuration's fault and are told nowhere."""
    with redis_server(tmp_path, "--requirepass", "pass%/word") as server:

        async def passes(wire: Wire) -> None:
            await wire.open()
            assert await wire.ask(("PING",)) == [b"PONG"]

        async def wrong(wire: Wire) -> None:
            with pytest.raises(ConfigError, match="credentials") as refused:
                await wire.open()
            assert "hush" not in str(refused.value)

        async def missing(wire: Wire) -> None:
            await wire.open()
            for reply in await wire.ask(("PING",), ("PING",)):  # an error is an answer, and ends nothing
                assert isinstance(reply, Refused)
                assert reply.code == "WRONGPASS"

        address = f"127.0.0.1:{server.port}"
        check(f"redis://:pass%25%2Fword@{address}", passes)
        check(f"redis://:hush@{address}", wrong)
        check(f"redis://{address}", missing)


def test_a_database_that_is_not_there(server: RedisServer) -> None:
    """The number is the configuration's fault."""

    async def body(wire: Wire) -> None:
        with pytest.raises(ConfigError, match="no database"):
            await wire.open()

    check(server.url.removesuffix("/0") + "/99", body)


def test_tls(tmp_path: Path) -> None:
    """With its root named it passes; with another, or none, it is refused; a plain one does not get in."""
    cert, key = certificate(tmp_path)
    options = ("--tls-cert-file", str(cert), "--tls-key-file", str(key), "--tls-auth-clients", "no")
    with redis_server(tmp_path / "data", *options, tls=True) as server:

        async def passes(wire: Wire) -> None:
            await wire.open()
            assert await wire.ask(("PING",)) == [b"PONG"]

        async def refused(wire: Wire) -> None:
            with pytest.raises(ConfigError, match="ssl_ca_certs"):
                await wire.open()

        address = f"127.0.0.1:{server.port}"
        check(f"rediss://{address}?ssl_ca_certs={cert}", passes)
        check(f"rediss://{address}", refused)
        check(f"rediss://{address}?ssl_ca_certs={tmp_path / 'none.pem'}", refused)
        check(f"rediss://{address}?ssl_nonsense=1", refused_option)


async def refused_option(wire: Wire) -> None:
    with pytest.raises(ConfigError, match="ssl_nonsense"):
        await wire.open()


def test_without_the_package_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first connection, not at the import of laneway."""
    real = builtins.__import__

    def lacking(name: str, *more: Any) -> Any:
        if name.partition(".")[0] == "redis":
            raise ImportError(name)
        return real(name, *more)

    async def body(wire: Wire) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(builtins, "__import__", lacking)
            with pytest.raises(ConfigError, match=r"pip install 'laneway\[redis\]'"):
                await wire.open()

    check("redis://127.0.0.1:1", body)


def certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, valid for an hour."""
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "redis")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(hours=1))
    builder = builder.add_extension(names, critical=False)
    files = directory / "cert.pem", directory / "key.pem"
    files[0].write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    files[1].write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return files
