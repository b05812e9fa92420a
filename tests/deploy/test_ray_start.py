"""The scripts that start Ray do so: a head and a worker node, guarded by a token, on free ports of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from laneway.engine.client import Client
from tests.e2e.serving import ANY_PORTS, clean_environment, listening
from tests.ports import held_ports

DEPLOY = Path(__file__).parents[2] / "deploy"
BIN = Path(sys.executable).parent
WITHIN_S = 120.0
pytestmark = pytest.mark.ray
MEMORY = ("--object-store-memory=83886080",)
PORTS = (
    "port",
    "ray-client-server-port",
    "node-manager-port",
    "object-manager-port",
    "runtime-env-agent-port",
    "dashboard-agent-grpc-port",
    "dashboard-agent-listen-port",
    "metrics-export-port",
)
"""What is fixed in the scripts, and free here. Ray listens on all addresses: hence the token."""
DRIVER = """
import json, sys, ray
try:
    ray.init(address=sys.argv[1], namespace="laneway/test", log_to_driver=False, logging_level="ERROR")
except ConnectionError as error:
    print(json.dumps("refused"))
else:
    print(json.dumps(sorted(node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"])))
"""


class Nodes:
    """Nodes of one cluster, each a process group of its own that is ended by its id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.token = folder / "token"
        self.token.write_text("a-token-of-thirty-two-characters")
        self.address = ""
        self._front: subprocess.Popen[str] | None = None
        self._ports = contextlib.ExitStack()

    def ports(self, names: tuple[str, ...]) -> dict[str, int]:
        """Return ports of their own for these, until all ends."""
        return dict(zip(names, self._ports.enter_context(held_ports(len(names))), strict=True))

    def start(self, script: str, *more: str, **settings: str) -> subprocess.Popen[bytes]:
        """Run a script as it is, on free ports."""
        ports = self.ports(PORTS if "head" in script else PORTS[2:])
        own = [f"--{name}={port}" for name, port in ports.items()]
        few = ["--min-worker-port=0", "--max-worker-port=0", *MEMORY]
        if "head" in script:
            own.append(f"--temp-dir={self._folder}/ray")
            self.address = f"127.0.0.1:{ports['port']}"
        environment = clean_environment(
            RAY_AUTH_TOKEN_PATH=str(self.token), PATH=f"{BIN}:{os.environ['PATH']}", **settings
        )
        with (self._folder / f"{script}.log").open("wb") as log:
            process = subprocess.Popen(
                [DEPLOY / script, *own, *few, *more], stdout=log, stderr=log, env=environment, start_new_session=True
            )
        self.processes.append(process)
        return process

    def front(self, ray_arguments: str) -> subprocess.Popen[str]:
        """Run deploy/front.sh as it is; its stdout has the ready line."""
        environment = clean_environment(
            RAY_AUTH_TOKEN_PATH=str(self.token),
            RAY_START_ARGS=ray_arguments,
            PATH=f"{BIN}:{os.environ['PATH']}",
            PYTHONPATH=str(DEPLOY.parent),
            LANEWAY_RUNTIME__ADDRESS=self.address,
            LANEWAY_RUNTIME__DURABILITY="volatile",
            LANEWAY_RUNTIME__READY_S=str(WITHIN_S),
            LANEWAY_RUNTIME__LOST_S="10",
        )
        with (self._folder / "front.log").open("wb") as log:
            self._front = subprocess.Popen(
                [DEPLOY / "front.sh", *ANY_PORTS, "--model", "scripted", "--store", "memory", "--drain-s", "1"],
                stdout=subprocess.PIPE, stderr=log, env=environment, text=True, start_new_session=True,
            )  # fmt: skip
        return self._front

    def logs(self) -> list[str]:
        """Return what all of them said."""
        return [path.read_text() for path in self._folder.glob("*.log")]

    def drive(self, **settings: str) -> object:
        """Return what a driver with these settings is told: the CPUs of each live node, or "refused"."""
        # One attempt where Ray makes twenty, a second apart: refused is refused.
        environment = clean_environment(RAY_NUM_REDIS_GET_RETRIES="1", HOME=str(self._folder), **settings)
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, self.address],
            env=environment, capture_output=True, text=True, timeout=WITHIN_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def until(self, expected: list[float]) -> None:
        """Wait until a driver with the token sees these CPUs."""
        deadline, seen = time.monotonic() + WITHIN_S, None
        while seen != expected:
            assert time.monotonic() < deadline, (seen, self.logs())
            assert all(process.poll() is None for process in self.processes)
            seen = self.drive(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(self.token))

    def close(self) -> None:
        """End what is left of each process group."""
        for process in (*self.processes, *([self._front] if self._front else [])):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._ports.close()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A head and one worker node with two CPUs."""
    with tempfile.TemporaryDirectory(prefix="lw", dir="/tmp", ignore_cleanup_errors=True) as folder:  # short: sockets
        made = Nodes(Path(folder))
        try:
            made.start("ray-head.sh")
            _connectable(made)
            made.start("ray-worker.sh", "--num-cpus=2", RAY_HEAD=made.address)
            made.until([0.0, 2.0])
            yield made
        finally:
            made.close()


def _connectable(nodes: Nodes) -> None:
    host, _, port = nodes.address.rpartition(":")
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)  # it tells nobody when
        else:
            return


def test_a_driver_with_the_token_is_served(nodes: Nodes) -> None:
    """It sees a head that runs nothing and a worker with its CPUs."""
    assert nodes.drive(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=nodes.token.read_text()) == [0.0, 2.0]


@pytest.mark.parametrize(
    "settings",
    [{}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "another-token-of-the-same-length"}],
    ids=["none", "wrong"],
)
def test_a_driver_without_it_is_refused(nodes: Nodes, settings: dict[str, str]) -> None:
    """Nobody runs code here who does not know the token."""
    assert nodes.drive(**settings) == "refused"


@pytest.mark.parametrize("script", ["ray-head.sh", "ray-worker.sh"])
def test_without_a_token_nothing_starts(script: str, tmp_path: Path) -> None:
    """An open cluster by an omission is not possible; the message says how to make one."""
    environment = clean_environment(RAY_AUTH_TOKEN_PATH=str(tmp_path / "none"))
    done = subprocess.run(
        [DEPLOY / script], env=environment, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    assert done.returncode == 1
    assert "no token in" in done.stderr


def test_a_front_serves_from_hosts_on_another_node(nodes: Nodes) -> None:
    """The engine, with a node of its own that has no CPUs: pools are placed on the worker; SIGTERM drains."""
    ports = [f"--{name}={port}" for name, port in nodes.ports(PORTS[2:]).items()]
    front = nodes.front(" ".join([*ports, "--min-worker-port=0", "--max-worker-port=0", *MEMORY]))

    async def asked(target: str) -> str:
        async with asyncio.timeout(WITHIN_S), Client(target, session="s1") as client:
            await client.send("Hello?")
            async for event in client:
                if event.kind == "TEXT_MESSAGE_CONTENT":
                    return str(event.text)
        raise AssertionError("no answer")

    assert front.stdout is not None
    grpc, _ = listening(front.stdout.readline())
    assert grpc, nodes.logs()
    assert asyncio.run(asked(grpc)).startswith("[SCRIPTED]")
    nodes.until([0.0, 0.0, 2.0])
    front.terminate()
    assert front.wait(WITHIN_S) == 0
    front.stdout.close()
    nodes.until([0.0, 2.0])


def test_sigterm_ends_all_it_started(nodes: Nodes) -> None:
    """A container that is stopped leaves no process of Ray behind: worker first, then the head."""
    for process in reversed(nodes.processes):
        process.terminate()
        process.wait(WITHIN_S)
        deadline = time.monotonic() + WITHIN_S
        while _group(process.pid):
            assert time.monotonic() < deadline, _group(process.pid)
            time.sleep(0.05)


def _group(session: int) -> list[str]:
    """Return the command lines of what lives in a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(stat.with_name("cmdline").read_text().replace("\0", " ")[:120])
    return found
