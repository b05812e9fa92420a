"""Tell everybody who listens, without a run: to one user, to a whole tenant, or to a topic.

python -m examples.publish
"""

import asyncio

from laneway import Engine


async def main() -> None:
    async with Engine() as engine:
        ada = engine.session("ada", user="ada", topics=["topic:builds"])
        bob = engine.session("bob", user="bob")
        async with ada, bob:
            assert await engine.publish("topic:builds", b"build 7 is green") == 1
            assert await engine.publish("user:bob", b"lunch?") == 1
            assert await engine.publish("tenant", b"maintenance at noon") == 2
            for name, session, expected in (("ada", ada, 2), ("bob", bob, 2)):
                heard = [await anext(session) for _ in range(expected)]
                print(name, "heard", [(event.entity, event.body.decode()) for event in heard])
                assert heard[-1].entity == "tenant"


asyncio.run(main())
