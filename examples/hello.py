"""An engine inside your own program: no server, no broker. The model is a labelled stand-in.

python -m examples.hello
"""

import asyncio
import time

begun = time.perf_counter()

from laneway import Engine  # noqa: E402 - the import is measured
from laneway.engine.models.synthetic import SyntheticModel  # noqa: E402

imported = time.perf_counter()


async def main() -> None:
    async with Engine() as engine:
        engine.nlp.use(SyntheticModel(tokens_per_s=0))
        async with engine.session("s1") as session:
            text, first_ms = "", 0.0
            async for event in session.ask("What is a lane?"):
                first_ms = first_ms or (time.perf_counter() - imported) * 1000
                text += event.text
    print(text)
    print(f"import {(imported - begun) * 1000:.0f} ms, first event {first_ms:.1f} ms after it")
    assert text.startswith("[SYNTHETIC]")


asyncio.run(main())
