"""Mutual TLS between hosts: 1.3 only, certificates of one authority, the right name."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from laneway.engine.peer.plane import Plane
from laneway.engine.tls import CIPHER_VARIABLE, Tls
from laneway.routing.errors import ConfigError
from tests.engine.edge.certificates import Authority
from tests.engine.peer.stage import SECRET, VERSION, Clock, Recorder

PROGRAM = Path(__file__).with_name("tls_process.py")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("others"), "others")


def _play(front: tuple[Path, ...], pool: tuple[Path, ...], tls_name: str = "") -> str:
    environment = {name: value for name, value in os.environ.items() if name != CIPHER_VARIABLE}
    environment["PYTHONPATH"] = str(Path(__file__).parents[3])
    child = subprocess.run(
        [sys.executable, str(PROGRAM), *map(str, (*front, *pool)), tls_name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert child.returncode == 0, child.stderr
    return child.stdout.strip()


def test_hosts_of_one_authority_connect(authority: Authority) -> None:
    """By the address in the certificate, or by one name that all certificates carry."""
    root = authority.root
    pool = (*authority.leaf("pool"), root)
    assert _play((*authority.leaf("front"), root), pool) == "connected"
    pool = (*authority.leaf("named", dns="hosts.example"), root)
    assert _play((*authority.leaf("front"), root), pool, "hosts.example") == "connected"


def test_another_authority_or_name_is_refused(authority: Authority, strangers: Authority) -> None:
    """A front of another authority, a pool host of another one, and a certificate for elsewhere: not reached."""
    front, pool = authority.leaf("front"), authority.leaf("pool")
    for line in (
        _play((*strangers.leaf("stranger"), authority.root), (*pool, authority.root)),
        _play((*front, authority.root), (*strangers.leaf("stranger"), strangers.root)),
        _play((*front, authority.root), (*authority.leaf("elsewhere", dns="elsewhere.example"), authority.root)),
    ):
        assert line.startswith("RUNTIME_UNAVAILABLE"), line
        assert "pool at 127.0.0.1:" in line


def test_a_process_that_accepts_tls12_does_not_start(authority: Authority) -> None:
    """Where grpc was loaded without the cipher setting the plane finds out and says what to do."""
    cert, key = authority.leaf("host")
    plane = Plane(
        "a", "1", Recorder(), secret=SECRET, clock=Clock(), version=VERSION, tls=Tls(cert, key, authority.root)
    )

    async def scenario() -> None:
        with pytest.raises(ConfigError, match=CIPHER_VARIABLE):
            await plane.start("127.0.0.1")
        await plane.close()

    asyncio.run(scenario())


def test_tls_is_mutual_and_its_files_are_checked(authority: Authority, tmp_path: Path) -> None:
    """Without an authority, or with files that do not fit, a plane is not even built."""
    cert, key = authority.leaf("host")
    for files, says in (((cert, key), "mutual"), ((cert, tmp_path / "none", authority.root), "TLS files")):
        with pytest.raises(ConfigError, match=says):
            Plane("a", "1", Recorder(), secret=SECRET, clock=Clock(), version=VERSION, tls=Tls(*files))
