"""`laneway doctor`: what is wrong with this set-up, and what to do about it.

Law of this file: every check finds out by doing (bind, write, connect, run), says what it found, and
comes with a fix if it fails. A note is for what is missing but not needed by this configuration.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from laneway.engine.cli.settings import server_config
from laneway.engine.cli.terminal import show_table

if TYPE_CHECKING:
    from laneway.engine.config import Config

__all__ = ["Finding", "doctor", "findings"]

_RUN_S: Final = 10.0


class Finding(NamedTuple):
    """What one check found.

    Attributes:
        state: "ok", "note" or "wrong".
        fix: what to do, if there is something to do.
    """

    check: str
    state: str
    found: str
    fix: str = ""


def doctor(config: Annotated[Path | None, typer.Option(help="TOML file, as for serve.")] = None) -> None:
    """Check this machine and this configuration; exit code 1 if something is wrong."""
    import os

    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # the refused TLS 1.2 handshake is what we want
    rows = asyncio.run(findings(server_config(config)))
    show_table(("check", "", "found", "fix"), rows, styles={"ok": "green", "note": "yellow", "wrong": "red"})
    wrong = sum(row.state == "wrong" for row in rows)
    if wrong:
        typer.echo(f"{wrong} of {len(rows)} checks found something wrong")
        raise typer.Exit(1)


async def findings(config: Config) -> list[Finding]:
    """Run all checks, one after the other."""
    checks: list[Callable[[Config], Awaitable[Finding] | Finding]] = [
        _python, _packages, _loopback, _port, _store, _ray, _weights, _tls, _event,
    ]  # fmt: skip
    rows: list[Finding] = []
    for check in checks:
        found = check(config)
        rows.append(found if isinstance(found, Finding) else await found)
    return rows


def _python(config: Config) -> Finding:
    import platform
    import sys

    ok = sys.version_info >= (3, 11)
    found = f"{platform.python_implementation()} {platform.python_version()}"
    return Finding("python", "ok" if ok else "wrong", found, "" if ok else "install Python 3.11 or newer")


def _packages(config: Config) -> Finding:
    """Compare what is installed with what laneway asks for."""
    from importlib.metadata import PackageNotFoundError, requires, version

    checked, wrong = 0, []
    for name, least in _minimums(requires("laneway") or []):
        checked += 1
        try:
            installed = version(name)
        except PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if _numbers(installed) < _numbers(least):
            wrong.append(f"{name} {installed} is older than {least}")
    if wrong:
        return Finding("packages", "wrong", "; ".join(wrong), "pip install --upgrade laneway")
    return Finding("packages", "ok", f"{checked} at least as new as needed")


def _minimums(requirements: list[str]) -> Iterator[tuple[str, str]]:
    import re
    import sys

    for requirement in requirements:
        text, _, marker = requirement.partition(";")
        if "extra ==" in marker or ("win32" in marker and sys.platform == "win32"):
            continue
        match = re.match(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?\s*>=\s*([0-9.]+)", text.strip())
        if match:
            yield match[1], match[2]


def _numbers(version: str) -> tuple[int, ...]:
    import re

    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


async def _loopback(config: Config) -> Finding:
    """Open a connection to ourselves."""
    try:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        async with server, asyncio.timeout(2.0):
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.close()
            names = {row[4][0] for row in await asyncio.get_running_loop().getaddrinfo("localhost", 0)}
    except (OSError, TimeoutError) as error:
        return Finding("loopback", "wrong", f"127.0.0.1 does not answer: {error!r}", "bring the interface `lo` up")
    strange = sorted(str(name) for name in names if not str(name).startswith(("127.", "::1")))
    if strange:
        return Finding("loopback", "wrong", f"localhost is {', '.join(strange)}", "mend /etc/hosts")
    return Finding("loopback", "ok", "localhost is " + ", ".join(sorted(map(str, names))))


async def _port(config: Config) -> Finding:
    """Bind the port, or find out who has it."""
    import socket

    host, port = config.edge.grpc
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if await _serves(str(config.edge.grpc)):
                return Finding("port", "ok", f"an engine serves on {config.edge.grpc}")
            fix = "choose another with --grpc HOST:PORT, or end who listens there"
            return Finding("port", "wrong", f"{config.edge.grpc}: {error.strerror}", fix)
    return Finding("port", "ok", f"{config.edge.grpc} is free")


async def _serves(target: str) -> bool:
    """Say whether a laneway edge answers there in plain text."""
    import grpc.aio
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from laneway.engine.proto.message import SERVICE

    async with grpc.aio.insecure_channel(target) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=SERVICE), timeout=2.0
            )
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def _store(config: Config) -> Finding:
    """Look whether the store can be read and written; does not create it."""
    if config.store.url == "memory":
        return Finding("store", "note", "memory: nothing survives the process", "for a server: --store PATH")
    if config.store.url.startswith(("redis:", "rediss:")):
        return await _redis(config)
    return _file(config)


async def _redis(config: Config) -> Finding:
    """Ask the server what it is and what it keeps; writes nothing."""
    from laneway.engine.app.choices import choose_store
    from laneway.engine.stores.redis import RedisStore
    from laneway.routing.errors import LanewayError

    try:
        store = choose_store(config)
        assert isinstance(store, RedisStore)
        version, lacks = await store.look()
    except LanewayError as error:
        found, _, fix = error.message.rpartition("; ")
        return Finding("store", "wrong", found or error.message, fix if found else "")
    if lacks:
        why, _, fix = lacks.partition("; ")
        return Finding("store", "note", f"Redis {version} is volatile: {why}", fix)
    return Finding("store", "ok", f"Redis {version} keeps what it answered")


def _file(config: Config) -> Finding:
    """Look whether the store's file can be read and written; does not create it."""
    import os
    import sqlite3

    path = Path(config.store.url.removeprefix("sqlite:")).absolute()
    directory = next(parent for parent in path.parents if parent.exists())
    if not os.access(directory, os.W_OK | os.X_OK):
        return Finding("store", "wrong", f"{directory} is not writable", "choose another --store, or mend its rights")
    if not path.exists():
        return Finding("store", "ok", f"{path} will be created")
    try:
        database = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=2.0)
        try:
            verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        finally:
            database.close()
    except sqlite3.Error as error:
        return Finding("store", "wrong", f"{path}: {error}", "restore it from a backup, or choose another --store")
    if verdict != "ok":
        return Finding("store", "wrong", f"{path}: {verdict}", "restore it from a backup, or choose another --store")
    return Finding("store", "ok", f"{path}, {path.stat().st_size:,} bytes")


async def _ray(config: Config) -> Finding:
    """Look whether the Ray that is meant can be reached; starts none."""
    from importlib.metadata import version

    found, address = f"ray {version('ray')}", config.runtime.address
    if config.runtime.kind == "local":
        return Finding("ray", "ok", f"{found} is installed; this engine runs without it")
    host, _, port = address.rpartition(":")
    if not host:
        where = "the cluster of this machine" if address == "auto" else "RAY_ADDRESS, or a local one"
        return Finding("ray", "ok", f"{found}; the engine uses {where}")
    try:
        async with asyncio.timeout(2.0):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
    except (OSError, TimeoutError, ValueError) as error:
        fix = "start the head with `ray start --head`, or mend runtime.address (HOST:PORT of its GCS, often 6379)"
        return Finding("ray", "wrong", f"{found}; nothing answers at {address}: {error!r}", fix)
    return Finding("ray", "ok", f"{found}; a head answers at {address}")


def _weights(config: Config) -> Finding:
    from importlib.util import find_spec

    from laneway.engine.models.weights import GGUF_BYTES, weights_path

    lacking = "wrong" if config.nlp.model == "local-llm" else "note"
    if find_spec("xllamacpp") is None:
        return Finding("local model", lacking, "xllamacpp is not installed", "pip install 'laneway[local-llm]'")
    path = weights_path()
    if not path.is_file():
        return Finding("local model", "note", f"no weights in {path.parent}", "laneway model fetch (93 MB, once)")
    if path.stat().st_size != GGUF_BYTES:
        return Finding("local model", lacking, f"{path} has the wrong size", "laneway model fetch replaces it")
    return Finding("local model", "ok", str(path))


async def _tls(config: Config) -> Finding:
    """Serve TLS with the configured files, or with a throw-away certificate, and try TLS 1.2 on it."""
    import sys
    import tempfile

    from laneway.engine.app.engine import Engine
    from laneway.engine.tls import Tls, require_tls13
    from laneway.routing.errors import LanewayError

    fix = "see the message; a wheel of grpcio built otherwise may need a TLS terminator in front"
    try:
        if "grpc" not in sys.modules:
            require_tls13()
        with tempfile.TemporaryDirectory() as directory:
            cert, key = config.edge.tls_cert, config.edge.tls_key
            if cert is None or key is None:
                cert, key = _certificate(Path(directory))
            async with Engine() as engine:
                await engine.serve_grpc(tls=Tls(cert, key, config.edge.tls_client_ca))
    except LanewayError as error:
        return Finding("tls", "wrong", error.message, fix)
    return Finding("tls", "ok", "TLS 1.3 is served, TLS 1.2 is refused")


def _certificate(directory: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate for localhost, valid for an hour."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(hours=1))
    files = directory / "cert.pem", directory / "key.pem"
    files[0].write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    files[1].write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return files


async def _event(config: Config) -> Finding:
    """Send one message through an embedded engine."""
    from laneway.engine.app.engine import Engine
    from laneway.engine.models.synthetic import SyntheticModel
    from laneway.routing.errors import LanewayError

    try:
        async with asyncio.timeout(_RUN_S), Engine() as engine:
            engine.nlp.use(SyntheticModel(tokens=(1, 1), tokens_per_s=0))
            async with engine.session("doctor") as session:
                begun, first_s = time.perf_counter(), 0.0
                async for _ in session.ask("ping"):
                    first_s = first_s or time.perf_counter() - begun
    except (LanewayError, TimeoutError) as error:
        return Finding("engine", "wrong", repr(error), "this is a bug; please report it with this table")
    return Finding("engine", "ok", f"a run's first event after {first_s * 1000:.1f} ms")
