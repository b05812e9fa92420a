"""TLS 1.3 only, client certificates, and what the files must be (rows T1 and T2).

The servers run in a child process: whether grpc accepts TLS 1.2 is decided by an environment
variable before grpc is loaded, and this process has loaded it already.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from laneway.engine.tls import CIPHER_VARIABLE, Tls, require_tls13, verify_tls13
from laneway.routing.errors import ConfigError, RuntimeUnavailable
from tests.engine.edge.certificates import Authority
from tests.engine.edge.rawclient import edge, raw

SERVER = """
import asyncio, sys
from pathlib import Path
from laneway.engine.tls import Tls, require_tls13
if sys.argv[4] == "require":
    require_tls13()
from laneway.engine.edge.auth import no_auth
from laneway.engine.edge.grpc import GrpcEdge, GrpcPolicy
from laneway.routing.errors import ConfigError
from tests.engine.edge.double import KINDS, Engine

async def main():
    engine = Engine()
    tls = Tls(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if sys.argv[3] else None)
    server = GrpcEdge(engine, kinds=KINDS, clock=engine.clock, policy=GrpcPolicy(tls=tls))
    try:
        print("port", await server.start(), flush=True)
    except ConfigError as error:
        print("refused", error, flush=True)
        return
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.close()

asyncio.run(main())
"""


@contextmanager
def served(cert: Path, key: Path, client_ca: Path | None = None, mode: str = "require") -> Iterator[str]:
    """A TLS edge in a child process; gives the first line it prints."""
    environment = {name: value for name, value in os.environ.items() if name != CIPHER_VARIABLE}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    child = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(cert), str(key), str(client_ca or ""), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert child.stdout is not None
        yield child.stdout.readline().strip()
    finally:
        child.communicate("", timeout=20)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("others"), "others")


async def handshake(port: int, version: ssl.TLSVersion) -> str:
    """Connect with exactly one TLS version; returns what was agreed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    agreed = writer.get_extra_info("ssl_object").version()
    writer.transport.abort()
    return str(agreed)


def credentials(root: Path, pair: tuple[Path, Path] | None = None) -> grpc.ChannelCredentials:
    if pair is None:
        return grpc.ssl_channel_credentials(root.read_bytes())
    return grpc.ssl_channel_credentials(root.read_bytes(), pair[1].read_bytes(), pair[0].read_bytes())


async def connects(port: int, identity: grpc.ChannelCredentials, host: str = "localhost") -> bool:
    async with raw(f"{host}:{port}", credentials=identity) as session:
        try:
            await session.hello()
        except (RuntimeUnavailable, grpc.aio.AioRpcError):
            return await session.call.code() is not grpc.StatusCode.UNAVAILABLE
    return True


def test_t1_only_tls13_gets_in(authority: Authority) -> None:
    """A 1.2 client and a plain-text client are turned away, a 1.3 client is served, by name and by address."""
    with served(*authority.leaf("server")) as line:
        port = int(line.split()[1])

        async def main() -> None:
            assert await handshake(port, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                await handshake(port, ssl.TLSVersion.TLSv1_2)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            async with asyncio.timeout(60):
                assert b"HTTP" not in await reader.read()
            writer.close()
            await verify_tls13("127.0.0.1", port)
            for host in ("localhost", "127.0.0.1"):
                assert await connects(port, credentials(authority.root), host)

        asyncio.run(main())


def test_t1_an_edge_that_accepts_tls12_refuses_to_run(authority: Authority) -> None:
    """Without the cipher setting the edge finds out by its own probe and says what to do."""
    with served(*authority.leaf("server"), mode="embedded") as line:
        assert line.startswith("refused")
        assert CIPHER_VARIABLE in line


def test_t2_clients_must_show_our_certificate(authority: Authority, strangers: Authority) -> None:
    """With a client CA: ours is served; none, another CA's and one that is over are not; nor a wrong server name."""
    root = authority.root
    with served(*authority.leaf("server"), client_ca=root) as line:
        port = int(line.split()[1])

        async def main() -> None:
            assert await connects(port, credentials(root, authority.leaf("client")))
            assert not await connects(port, credentials(root))
            assert not await connects(port, credentials(root, strangers.leaf("stranger")))
            assert not await connects(port, credentials(root, authority.leaf("old", days=-1)))
            assert await connects(port, credentials(root, authority.leaf("client")))

        asyncio.run(main())
    with served(*authority.leaf("elsewhere", dns="elsewhere.example")) as line:
        assert not asyncio.run(connects(int(line.split()[1]), credentials(root)))


def test_unusable_files_are_named(authority: Authority, tmp_path: Path) -> None:
    """A missing file, and a key that does not fit its certificate, are ConfigErrors at once."""
    cert, key = authority.leaf("server")
    _, other_key = authority.leaf("other")
    for pair in ((tmp_path / "none.crt", key), (cert, other_key), (key, cert)):
        with pytest.raises(ConfigError, match="TLS files"):
            Tls(*pair).credentials()


def test_the_switch_is_refused_when_it_is_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once grpc is loaded the variable has no effect, so setting it is an error; set before, it is fine."""
    monkeypatch.delenv(CIPHER_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match="loaded already"):
        require_tls13()
    assert CIPHER_VARIABLE not in os.environ


def test_a_probe_needs_an_answer() -> None:
    """A port on which nothing, or something silent, listens is a ConfigError, not a pass."""

    async def main() -> None:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        with pytest.raises(ConfigError, match="did not answer"):
            await verify_tls13("127.0.0.1", port)
        async with edge() as (plain, _, _):
            await verify_tls13("127.0.0.1", plain.port)  # plain text speaks no TLS 1.2 either

    asyncio.run(main())
