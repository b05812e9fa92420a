"""A host in a process of its own, to be killed or frozen by test_plane_processes.py; not a test itself.

`NAME INCARNATION BEAT_S LOST_S [POOL_HOST ADDRESS]`: prints its address, then a line for everything it is
told, and sends each message back on the stream its verb stands for. It is a front that dials the pool
host, if one is given, else a pool host itself. Ends when its input does.
"""

from __future__ import annotations

import asyncio
import sys

from laneway.actors.hosts.peers import CANCEL, Message, Peer
from laneway.engine.peer.plane import Plane
from laneway.engine.peer.policy import PeerPolicy
from laneway.routing.errors import LanewayError
from laneway.routing.membership import FRONT, POOL
from tests.engine.peer.stage import SECRET, VERSION, Clock, member


class Echo:
    """Sends everything back, and tells on standard output what it is told."""

    def connected(self, peer: Peer) -> None:
        print("connected", peer.name, flush=True)

    def received(self, peer: Peer, message: Message) -> None:
        peer.send(message, urgent=message[0] == CANCEL)

    def lost(self, peer: Peer, error: LanewayError) -> None:
        print("lost", peer.name, error.code, error.reason, flush=True)


async def main(name: str, incarnation: str, beat_s: str, lost_s: str, *follow: str) -> None:
    policy = PeerPolicy(beat_s=float(beat_s), lost_s=float(lost_s), backoff_base_s=0.02, backoff_cap_s=0.05)
    role = FRONT if follow else POOL
    plane = Plane(name, incarnation, Echo(), secret=SECRET, version=VERSION, clock=Clock(), role=role, policy=policy)
    print(await plane.start("127.0.0.1"), flush=True)
    if follow:
        plane.follow([member(*follow)])
    await asyncio.to_thread(sys.stdin.read)
    await plane.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
