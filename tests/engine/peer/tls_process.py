"""Two hosts with TLS in a process that has TLS 1.3 only; run by test_plane_tls.py, not a test itself.

`FRONT_CERT FRONT_KEY FRONT_CA POOL_CERT POOL_KEY POOL_CA TLS_NAME`: prints `connected` after a message
went each way, or why the front did not reach the pool host.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from laneway.engine.tls import Tls, require_tls13

require_tls13()

from laneway.actors.hosts.peers import EMIT  # noqa: E402
from laneway.engine.peer.policy import PeerPolicy  # noqa: E402
from laneway.routing.membership import POOL  # noqa: E402
from tests.engine.peer.stage import both_up, eventually, host, member  # noqa: E402


async def main(files: list[str], tls_name: str) -> None:
    mine, other = (Tls(*map(Path, each)) for each in (files[:3], files[3:]))
    policy = PeerPolicy(connect_s=5)
    async with (
        host("pool", role=POOL, tls=other) as (_, theirs, address),
        host("front", tls=mine, tls_name=tls_name, policy=policy) as (front, ours, _),
    ):
        front.follow([member("pool", address)])
        await eventually(lambda: ours.peers or front.unreached)
        if front.unreached:
            assert not theirs.peers
            print(front.unreached["pool"])
            return
        left, right = await both_up(ours, theirs)
        for side in (left, right):
            side.peer.send((EMIT, 1, bytes(2_000_000)))
        for side in (left, right):
            await side.recorder.until(lambda side=side: side.recorder.messages)
        print("connected")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:7], sys.argv[7]))
