"""Your own events in your own pools: one handler per event, or one for a whole batch.

python -m examples.pools
"""

import asyncio
from collections.abc import Sequence

from laneway import Context, Engine, EnvelopeView


async def main() -> None:
    batches: list[int] = []
    async with Engine() as engine:

        @engine.pool("thumbnails", kinds=["IMAGE_UPLOADED"], concurrency=4)
        async def thumbnail(event: EnvelopeView, context: Context) -> dict[str, object]:
            return {"type": "CUSTOM", "name": "thumbnail", "value": {"image": event.entity, "bytes": len(event.body)}}

        @engine.pool("metrics", kinds=["MEASURED"], batch=True)
        async def store_all(events: Sequence[EnvelopeView], contexts: Sequence[Context]) -> list[None]:
            batches.append(len(events))
            return [None] * len(events)

        async with engine.session("s1") as session:
            await session.send_event("IMAGE_UPLOADED", b"\x89PNG...", entity="cat.png")
            await asyncio.gather(*(session.send_event("MEASURED", b"%d" % number) for number in range(100)))
            event = await anext(session)
            print(event.data)
            assert event.data["value"] == {"image": "cat.png", "bytes": 7}
    print(f"100 measurements handled in {len(batches)} batches")
    assert sum(batches) == 100


asyncio.run(main())
