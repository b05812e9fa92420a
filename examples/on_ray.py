"""One argument to scale out: the handler and the tool below run in processes that Ray places.

They are at module level, so that other processes can import them; nothing else differs from `Engine()`.

python -m examples.on_ray
"""

import asyncio
import os

from laneway import Context, Engine, EnvelopeView


async def thumbnail(event: EnvelopeView, context: Context) -> dict[str, object]:
    return {"type": "CUSTOM", "name": "thumbnail", "value": {"image": event.entity, "pid": os.getpid()}}


async def whereabouts() -> int:
    """The process that runs this tool."""
    return os.getpid()


async def main() -> None:
    engine = Engine(runtime="ray")  # joins RAY_ADDRESS, or starts a small Ray that ends with this engine
    engine.pool("thumbnails", ["IMAGE_UPLOADED"], "examples.on_ray:thumbnail", hosts=2)
    engine.tools.add("examples.on_ray:whereabouts", effects=False, idempotent=True)
    engine.nlp.use("scripted")
    async with engine, engine.session("s1") as session:
        for host in engine.hosts:
            print(host.name, "is process", host.pid)
        await session.send_event("IMAGE_UPLOADED", b"\x89PNG...", entity="cat.png")
        made = (await anext(session)).data["value"]
        told = [event.data async for event in session.ask("call whereabouts {}") if event.kind == "TOOL_CALL_RESULT"]
        pids = {host.pid for host in engine.hosts}
    print("the thumbnail was made by", made["pid"], "and the tool ran in", told[0]["content"], "of", len(pids))
    assert {made["pid"], int(told[0]["content"])} < pids - {os.getpid()}


if __name__ == "__main__":  # hosts import this module too
    asyncio.run(main())
