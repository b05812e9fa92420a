"""Several nodes of one Ray cluster on this machine, and fronts that belong to a given one.

Law of this file: each node has a loopback address of its own, by which a front chooses the one it
belongs to; a resource of its own, by which a pool is placed there; what is started here is ended here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.serving import COMMAND, Server, clean_environment
from tests.ray_patience import patient_ray

__all__ = ["Nodes", "three_nodes"]

_ROOT: Final = Path(__file__).parents[2]
_IPS: Final = ("127.0.0.11", "127.0.0.12", "127.0.0.13")
_STORE_BYTES: Final = 80 * 2**20
_CPUS: Final = 1
"""Ray starts a process for each in advance."""
_COMMAND_S: Final = 120.0
_ENVIRONMENT: Final = {
    "PYTHONPATH": str(_ROOT),
    "RAY_AUTH_MODE": "disabled",  # a local Ray in this process has switched it on for all that come after
    "RAY_worker_niceness": "0",
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_USAGE_STATS_ENABLED": "0",
}


class Nodes:
    """A cluster; the first node is its head. Each has resource "nodeN"; all but the head have "spare".

    Attributes:
        address: of the head's GCS. ips: of the nodes that live, in order.
    """

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args={**_node(0), "include_dashboard": False})
        self._nodes = {_IPS[0]: self._cluster.head_node}
        self.address = str(self._cluster.address)
        for number in (1, 2):
            self.add(number)

    @property
    def ips(self) -> list[str]:
        return sorted(self._nodes)

    def node_id(self, ip: str) -> str:
        """Ray's id of a node, as the membership has it."""
        return str(self._nodes[ip].node_id)

    def add(self, number: int) -> None:
        """Start a node; its number is in its address and its resource."""
        self._nodes[_IPS[number]] = self._cluster.add_node(**_node(number))

    def remove(self, ip: str) -> None:
        """Kill a node and all that runs on it, as when its machine loses power."""
        self._cluster.remove_node(self._nodes.pop(ip), allow_graceful=False)

    def end(self) -> None:
        self._cluster.shutdown()

    def front(self, number: int, cluster: str, store: str, *options: str, model: str, **runtime: Any) -> Server:
        """`laneway serve` on a node, with further settings of section [runtime]."""
        own = {"node_ip": _IPS[number], "cpus": 0.1, "beat_s": 0.2, "lost_s": 3.0, "ready_s": 120.0, **runtime}
        settings = {f"LANEWAY_RUNTIME__{name.upper()}": _plain(value) for name, value in own.items()}
        where = ("--runtime", "ray", "--ray-address", self.address, "--cluster", cluster)
        return Server(store, *where, *options, model=model, cwd=_ROOT, settings=settings)

    async def ask(self, *arguments: str, cluster: str) -> tuple[int, str]:
        """`laneway cluster ...` in a process of its own; returns its exit code and what it said."""
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "cluster", *arguments, "--cluster", cluster, "--address", self.address,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=clean_environment(COLUMNS="200"),
        )  # fmt: skip
        try:
            async with asyncio.timeout(_COMMAND_S):
                out, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return process.returncode, out.decode()

    async def members(self, cluster: str) -> dict[str, dict[str, Any]]:
        """What `laneway cluster status` says, by name."""
        _, out = await self.ask("status", "--json", cluster=cluster)
        return {row["name"]: row for row in json.loads(out)}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _node(number: int) -> dict[str, Any]:
    spare = {} if number == 0 else {"spare": 1.0}
    return {
        "node_ip_address": _IPS[number],
        "num_cpus": _CPUS,
        "object_store_memory": _STORE_BYTES,
        "resources": {f"node{number}": 1.0, **spare},
    }


@contextlib.contextmanager
def three_nodes() -> Iterator[Nodes]:
    """A cluster that ends with the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        for name, value in _ENVIRONMENT.items():
            patch.setenv(name, value)
        before = signal.getsignal(signal.SIGTERM)  # Ray sets its own
        with patient_ray():
            nodes = Nodes()
        try:
            yield nodes
        finally:
            nodes.end()
            signal.signal(signal.SIGTERM, before)
