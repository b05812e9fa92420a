"""A process that writes to a store until it is killed; run by tests of stores, not a test itself.

`load STORE`: many logs append at once; prints `LOG SEQ` after each acknowledged append.
`home STORE`: claims `k`, prints `claimed`, then appends one entry per input line and prints the outcome.
`race STORE`: claims `k` and appends until another claim fences it, 15 times; prints `GENERATION SEQ`
after each acknowledged append.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys

from laneway.actors.ports import Entry, Store
from laneway.engine.app.choices import choose_store
from laneway.engine.config import Config
from laneway.routing.errors import Fenced, LanewayError


def entry(log: int, seq: int) -> Entry:
    return Entry(1, seq, seq * 10, b"%d/%d" % (log, seq) * 20)


async def race(store: Store) -> None:
    for _ in range(15):
        claim = await store.claim("k")
        head = claim.heads.get(1, (0, 0))[0]
        try:
            for seq in itertools.count(head + 1):
                await store.append(claim, [Entry(1, seq, seq, b"%d" % claim.generation)])
                os.write(1, f"{claim.generation} {seq}\n".encode())
                if seq > head + 50:
                    break
        except Fenced:
            continue


async def load(store: Store) -> None:
    async def fill(log: int) -> None:
        claim = await store.claim(f"log.{log}")
        head = claim.heads.get(1, (0, 0))[0]
        for seq in itertools.count(head + 1, 3):
            await store.append(claim, [entry(log, seq), entry(log, seq + 1), entry(log, seq + 2)])
            os.write(1, f"{log} {seq + 2}\n".encode())

    await asyncio.gather(*map(fill, range(20)))


async def home(store: Store) -> None:
    claim = await store.claim("k")
    print("claimed", claim.generation, flush=True)
    for line in sys.stdin:
        try:
            await store.append(claim, [entry(0, int(line))])
            print("ok", flush=True)
        except LanewayError as error:
            print(error.code, flush=True)


async def main() -> None:
    store = choose_store(Config(), sys.argv[2])
    await store.open()
    await {"load": load, "home": home, "race": race}[sys.argv[1]](store)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main())
