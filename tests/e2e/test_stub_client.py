"""The wire is usable without laneway: generated stubs, grpcio and msgpack are enough."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from laneway.engine.models.synthetic import SyntheticModel
from laneway.engine.testing.proxy import Proxy
from laneway.routing.classify import KindTable
from tests.e2e.serving import Server
from tests.engine.edge.rawclient import edge

ROOT = Path(__file__).parents[2]
PROTO = ROOT / "engine" / "proto"
SCRIPT = Path(__file__).with_name("stub_client.py")


def generate(folder: Path, root: Path, schema: str) -> Path:
    """Run the stub generator; returns the folder."""
    pytest.importorskip("grpc_tools", reason="the build group (grpcio-tools) is not installed")
    options = [f"-I{root}", f"--python_out={folder}", f"--pyi_out={folder}", f"--grpc_python_out={folder}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, schema], check=True)
    return folder


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stubs as anybody generates them, who has edge.proto and nothing else."""
    return generate(tmp_path_factory.mktemp("stubs"), PROTO / "laneway" / "v1", "edge.proto")


@pytest.mark.parametrize("cut_after", [0, 3, 20])
def test_a_stub_only_client_works_is_cut_and_resumes(stubs: Path, cut_after: int, tmp_path: Path) -> None:
    """It gets its run in order, the text whole, also over a cut in the middle with a resent message."""
    text = " ".join(f"word{index}" for index in range(900))

    async def main() -> None:
        async with edge() as (_, engine, target):
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                str(SCRIPT),
                *(str(stubs), target, "s1", text, str(cut_after)),
                stdout=subprocess.PIPE,
                cwd=tmp_path,
            )
            async with asyncio.timeout(60):
                output, _ = await child.communicate()
            assert child.returncode == 0
            result = json.loads(output)
            assert result["text"] == text + " "
            assert result["resumes"] == bool(cut_after)
            assert len(engine.session("s1").handled) == 1
            assert result["seqs"][2] == engine.session("s1").rings[1].head

    asyncio.run(main())


@pytest.mark.parametrize("cuts", [1, 3])
def test_it_is_cut_from_outside_and_resumes_on_a_real_server(stubs: Path, cuts: int, tmp_path: Path) -> None:
    """TCP resets in the middle of the text; what it ends up with is, to the byte, what the model said."""

    async def main() -> None:
        async with asyncio.timeout(60), Server(tmp_path / "engine.db") as server, Proxy(server.port) as proxy:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", str(SCRIPT), str(stubs), proxy.target, "s1", "cut me", "0"),
                stdout=subprocess.PIPE,
                cwd=tmp_path,
            )
            for _ in range(cuts):
                connections, seen = proxy.connections, proxy.down_bytes
                await until(lambda seen=seen: proxy.down_bytes > seen + 800)
                proxy.cut()
                await until(lambda connections=connections: proxy.connections > connections)
            output, _ = await child.communicate()
            assert child.returncode == 0
            result = json.loads(output)
            said = "".join(SyntheticModel().words("s1", "cut me"))
            assert hashlib.sha256(result["text"].encode()).digest() == hashlib.sha256(said.encode()).digest()
            assert result["resumes"] >= cuts

    asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    """Look until something holds; the test has a deadline around it."""
    while not condition():  # noqa: ASYNC110 - nobody announces it
        await asyncio.sleep(0.005)


def test_the_kind_numbers_it_knows_are_the_tables() -> None:
    """Numbers on the wire never change."""
    kinds = KindTable()
    known = {5: "USER_MESSAGE", 16: "TEXT_MESSAGE_CONTENT", 32: "RUN_FINISHED"}
    assert {number: kinds.require(number).name for number in known} == known


def test_the_committed_stubs_are_the_schemas(tmp_path: Path) -> None:
    """What is committed beside edge.proto is what `make proto` writes today."""
    stubs = generate(tmp_path, PROTO, "laneway/v1/edge.proto")
    for name in ("edge_pb2.py", "edge_pb2.pyi", "edge_pb2_grpc.py"):
        made = (stubs / "laneway" / "v1" / name).read_text()
        made = made.replace("from laneway.v1 import", "from laneway.engine.proto.laneway.v1 import")
        assert _without_versions((PROTO / "laneway" / "v1" / name).read_text()) == _without_versions(made)


def _without_versions(text: str) -> list[str]:
    """Generated code names the generator's version; another one makes the same code."""
    lines = [line for line in text.splitlines() if "Version" not in line and "VERSION =" not in line]
    return [line for line in lines if not line.strip().rstrip(",").isdigit()]
