"""A process that writes to a store until it is killed; run by test_sqlite.py, not a test itself.

`load PATH`: many logs append at once; prints `LOG SEQ` after each acknowledged append.
`home PATH`: claims `k`, prints `claimed`, then appends one entry per input line and prints the outcome.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys

from laneway.actors.ports import Entry
from laneway.engine.stores.sqlite import SqliteStore
from laneway.routing.errors import LanewayError


def entry(log: int, seq: int) -> Entry:
    return Entry(1, seq, seq * 10, b"%d/%d" % (log, seq) * 20)


async def load(store: SqliteStore) -> None:
    async def fill(log: int) -> None:
        claim = await store.claim(f"log.{log}")
        head = claim.heads.get(1, (0, 0))[0]
        for seq in itertools.count(head + 1, 3):
            await store.append(claim, [entry(log, seq), entry(log, seq + 1), entry(log, seq + 2)])
            os.write(1, f"{log} {seq + 2}\n".encode())

    await asyncio.gather(*map(fill, range(20)))


async def home(store: SqliteStore) -> None:
    claim = await store.claim("k")
    print("claimed", claim.generation, flush=True)
    for line in sys.stdin:
        try:
            await store.append(claim, [entry(0, int(line))])
            print("ok", flush=True)
        except LanewayError as error:
            print(error.code, flush=True)


async def main() -> None:
    store = SqliteStore(sys.argv[2])
    await store.open()
    await {"load": load, "home": home}[sys.argv[1]](store)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main())
