"""A Ray of two nodes on loopback: a head, and one that may be killed and put back.

Law of this file: the head is started on the main thread and dies with it, whatever happens; the second node is
started beside the event loop, and gives up by itself if its head is gone. Every node is ended with the block.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final

from tests.ray_patience import patient_ray

__all__ = ["Nodes"]

_ENVIRONMENT: Final = {
    "RAY_worker_niceness": "0",
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_NODE: Final = {"num_cpus": 4, "object_store_memory": 80 * 2**20}
_IPS: Final = ("127.0.0.2", "127.0.0.3")
"""On loopback, but not 127.0.0.1, for which Ray puts the machine's own address."""


class Nodes:
    """The cluster, as `async with`.

    Args:
        folder: for its sockets and logs; a short path.

    Attributes:
        address: of the head's GCS.
    """

    def __init__(self, folder: str, **environment: str) -> None:
        self.address = ""
        self._folder = folder
        self._environment = {**_ENVIRONMENT, **environment}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chaos-ray")
        self._cluster: Any = None
        self._second: Any = None

    async def __aenter__(self) -> Nodes:
        os.environ.update(self._environment)
        try:
            self._start()
            await self.add()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._thread.shutdown()

    async def add(self) -> None:
        """Start the second node."""
        with patient_ray():
            self._second = await self._there(lambda: self._cluster.add_node(**_NODE, node_ip_address=_IPS[1]))

    async def kill(self) -> int:
        """kill -9 of all processes of the second node, the raylet first; returns the raylet's pid."""
        second, self._second = self._second, None
        pid: int = second.all_processes["raylet"][0].process.pid
        os.kill(pid, 9)
        await self._there(lambda: self._cluster.remove_node(second, allow_graceful=False))
        return pid

    def _start(self) -> None:
        from ray._common.utils import get_default_ray_temp_dir, try_to_create_directory
        from ray.cluster_utils import Cluster

        try_to_create_directory(get_default_ray_temp_dir())  # the address is noted there, wherever the rest goes
        head = {**_NODE, "include_dashboard": False, "temp_dir": self._folder, "node_ip_address": _IPS[0]}
        with patient_ray():
            self._cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=True)
        self.address = self._cluster.address
        self._cluster._shutdown_at_exit = False  # its signal handlers are for the main thread

    def _stop(self) -> None:
        import ray

        ray.shutdown()
        if self._cluster is not None:
            self._cluster.shutdown()

    async def _there(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
