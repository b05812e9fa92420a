"""A session that outlives its process: the second engine finds what the first one logged.

python -m examples.durable
"""

import asyncio
import tempfile
from pathlib import Path

from laneway import Engine
from laneway.engine.models.synthetic import SyntheticModel


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = Path(directory) / "laneway.db"
        async with Engine(store=store) as engine:
            engine.nlp.use(SyntheticModel(tokens_per_s=0))
            async with engine.session("diary") as session:
                receipt = await session.send("Remember the milk")
                async for event in session:
                    if event.ends_run:
                        break
        print("accepted as", receipt.status)
        async with Engine(store=store) as engine, engine.session("diary") as session:
            snapshot = await anext(session)
            said = [message["content"] for message in snapshot.data["messages"]]
    print("a new engine remembers", [text[:30] for text in said])
    assert receipt.status == "durable"
    assert said[0] == "Remember the milk"
    assert len(said) == 2


asyncio.run(main())
