"""What a host carries: a program named by its import path, and what the two tell each other.

Law of this file: a host knows nothing of what its program does, and a program nothing of Ray. It is
started once in each life of the host, on the host's loop, and always closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, cast

from laneway.engine.imports import load_callable
from laneway.routing.errors import LanewayError
from laneway.routing.membership import View

__all__ = ["HostFacts", "Presence", "Program", "program_of"]


class HostFacts(NamedTuple):
    """What a program is told at its start.

    Attributes:
        cluster: its name. name: the host's, stable over restarts. incarnation: of this life.
        pool: whose host it is. node: Ray node id. ip: of the node: where peers reach it. pid: of this process.
        secret: what hosts of the cluster show each other. version: of laneway.
        spec: what the program is to do, packed by who spawned it.
    """

    cluster: str
    name: str
    incarnation: str
    pool: str
    node: str
    ip: str
    pid: int
    secret: str
    version: str
    spec: bytes


class Presence(NamedTuple):
    """What a started program says of itself; becomes part of `Member`.

    Attributes:
        role: FRONT or POOL. address: HOST:PORT of its peer server. pools: whose cells it carries.
    """

    role: str
    address: str
    pools: tuple[str, ...] = ()


class Program(Protocol):
    """What an import path must lead to: a class, or a function without arguments that makes one."""

    async def start(self, facts: HostFacts) -> Presence:
        """Open what it serves. What it raises is told to whoever waits for the host: a LanewayError as it is."""
        ...

    def saw(self, view: View) -> None:
        """Take a new view of the cluster."""
        ...

    def dropped(self, error: LanewayError) -> None:
        """This life is over: others have taken over. Stop all effects now; `close` follows."""
        ...

    async def drain(self, deadline_s: float) -> None:
        """Take nothing new, and return when nothing is under way, at the latest after `deadline_s`."""
        ...

    async def close(self) -> None:
        """Release everything; also after a `start` that failed. Idempotent."""
        ...

    def statistics(self) -> Mapping[str, Any]:
        """Return plain data for people and controllers; `load` (0..1) is shown by `laneway cluster status`."""
        ...


def program_of(path: str) -> Program:
    """Make the program that ``module:qualname`` names. Raises ConfigError: it cannot be loaded or called."""
    return cast("Program", load_callable(path)())
