"""What an engine was told, told to another process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from laneway import Config, Engine, Kind, Lane, Principal
from laneway.engine.app.brain import Brain
from laneway.engine.app.registrations import Registrations
from laneway.engine.app.toolbox import Toolbox
from laneway.engine.tooling.mcp import MCPServer, ServerCommand
from laneway.routing.classify import KindTable
from laneway.routing.errors import ConfigError, LocalProtocolError
from tests.engine.app import shop

SHOP = shop.__name__
ROOT = Path(__file__).parents[3]


def told(**runtime: Any) -> Engine:
    """An engine on Ray that was told of one of each."""
    config = Config.model_validate({"runtime": {"kind": "ray", **runtime}})
    engine = Engine(config, kinds=[Kind("PICTURE", Lane.LOW, durable=False, text=True)])
    engine.pool("echo", ["PICTURE", "ASKED"], f"{SHOP}:echo", concurrency=3, keyed="session", hosts=2, max_hosts=4)
    engine.pool("bulk", ["BULK"], shop.echo_all, batch=True)
    engine.tools.add(f"{SHOP}:price", name="cost", idempotent=True, scopes=frozenset({"b", "a"}))
    engine.tools.add(shop.stock)
    engine.tools.add(shop.ledger)
    engine.nlp.use(f"{SHOP}:make_model")
    return engine


def test_all_of_it_survives_the_way() -> None:
    """Bytes and back give the same; paths for everything, own kinds only."""
    registrations = told(hosts={"tools": 3}).registrations()
    again = Registrations.from_bytes(registrations.to_bytes())
    assert again == registrations
    assert [(row.name, row.handler, row.hosts, row.max_hosts) for row in again.pools] == [
        ("nlp", "", 1, 1),
        ("tools", "", 3, 3),
        ("echo", f"{SHOP}:echo", 2, 4),
        ("bulk", f"{SHOP}:echo_all", 1, 1),
    ]
    assert [kind.name for kind in again.kinds] == ["PICTURE", "ASKED", "BULK"]
    assert again.kinds[0] == Kind("PICTURE", Lane.LOW, durable=False, text=True)
    assert [(row.name, row.path) for row in again.tools] == [
        ("cost", f"{SHOP}:price"), ("stock", f"{SHOP}:stock"), ("ledger", f"{SHOP}:ledger"),
    ]  # fmt: skip
    assert again.model == f"{SHOP}:make_model"


def test_a_host_makes_the_same_of_it() -> None:
    """Handlers, catalogue, options, scopes and model are those of the engine."""

    async def main() -> None:
        engine = told()
        registrations = Registrations.from_bytes(engine.registrations().to_bytes())
        kinds, tools, nlp = KindTable(), Toolbox(), Brain()
        await registrations.apply(["nlp", "tools"], kinds=kinds, tools=tools, nlp=nlp)
        root = Principal("root", scopes=frozenset({"admin"}))
        assert tools.specs(root) == engine.tools.specs(root) == registrations.visible(root)
        guest = Principal("guest")
        assert [spec.name for spec in registrations.visible(guest)] == ["ledger"]
        assert type(nlp.model) is type(engine.nlp.model)
        assert kinds.require("PICTURE") == engine.kinds.require("PICTURE")
        spec = registrations.pool("echo").spec()
        assert (spec.name, spec.kinds, spec.concurrency, spec.keyed) == ("echo", ("PICTURE", "ASKED"), 3, "session")
        assert registrations.pool("bulk").spec().batch
        await tools.close()
        await engine.close()

    asyncio.run(main())


def test_a_host_that_is_told_more_keeps_what_it_has() -> None:
    """Same tools and model stay the objects they are; what is gone goes, what is new comes."""

    async def main() -> None:
        engine = told()
        kinds, tools, nlp = KindTable(), Toolbox(), Brain()
        await engine.registrations().apply(["nlp", "tools"], kinds=kinds, tools=tools, nlp=nlp)
        kept, model = tools.get("stock"), nlp.model
        engine.tools.catalogue.remove("cost")
        engine.tools.add(shop.price, description="other words")
        await engine.registrations().apply(["nlp", "tools"], kinds=kinds, tools=tools, nlp=nlp)
        assert tools.get("stock") is kept
        assert nlp.model is model
        assert {tool.spec.name for tool in tools.catalogue} == {"stock", "ledger", "price"}
        engine.nlp.use("scripted")
        await engine.registrations().apply(["nlp"], kinds=kinds, tools=tools, nlp=nlp)
        assert nlp.model is not model
        await engine.close()

    asyncio.run(main())


def test_a_host_carries_only_what_its_pools_need() -> None:
    """Another pool's host imports neither tools nor model."""

    async def main() -> None:
        tools, nlp = Toolbox(), Brain()
        await told().registrations().apply(["echo"], kinds=KindTable(), tools=tools, nlp=nlp)
        assert (len(tools.catalogue), nlp.model) == (0, None)

    asyncio.run(main())


def test_another_process_makes_it_by_import_alone() -> None:
    """A fresh interpreter that is given the bytes has the handler, the tools and the model."""
    code = (
        "import asyncio, sys\n"
        "from laneway.engine.app.brain import Brain\n"
        "from laneway.engine.app.registrations import Registrations\n"
        "from laneway.engine.app.toolbox import Toolbox\n"
        "from laneway.routing.classify import KindTable\n"
        "told = Registrations.from_bytes(sys.stdin.buffer.read())\n"
        "tools, nlp = Toolbox(), Brain()\n"
        "asyncio.run(told.apply(['nlp', 'tools'], kinds=KindTable(), tools=tools, nlp=nlp))\n"
        "print(told.pool('echo').spec().name, sorted(t.spec.name for t in tools.catalogue), nlp.name)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        input=told().registrations().to_bytes(),
        capture_output=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert process.stdout.decode().split() == ["echo", "['cost',", "'ledger',", "'stock']", "synthetic"], process.stderr


def test_what_cannot_be_named_is_told_with_the_fix_and_all_at_once() -> None:
    """Handler, tool, model and server; each with its pool's way out."""

    async def main() -> None:
        engine = Engine(runtime="ray")

        async def closure(event: object, context: object) -> None: ...

        async def secret(word: str) -> str:
            """A closure."""
            return word

        async def agent(run: Any) -> AsyncIterator[dict[str, Any]]:
            yield {}

        engine.pool("own", ["OWN"], closure)
        engine.tools.add(secret)
        engine.tools.servers.append(MCPServer("callback", ServerCommand("x"), on_tools=lambda tools: None))
        engine.nlp.use(agent)
        with pytest.raises(ConfigError) as refused:
            engine.registrations()
        message = refused.value.message
        for part in ("handler of pool 'own'", "tool 'secret'", "MCP server 'callback'", "model 'agent'"):
            assert part in message
        assert message.count("is defined inside a function") == 3
        for fix in ("module level", "import path", 'runtime.placement = {"POOL": "driver"}'):
            assert fix in message

    asyncio.run(main())


def test_what_stays_in_the_engines_process_needs_no_name() -> None:
    """Neither on the local runtime nor with placement "driver"; handlers still see the whole catalogue."""

    async def secret(word: str) -> str:
        """A closure."""
        return word

    for runtime in ({"kind": "local"}, {"kind": "ray", "placement": {"tools": "driver", "nlp": "driver"}}):
        engine = Engine(Config.model_validate({"runtime": runtime}))
        engine.tools.add(secret)
        engine.nlp.use(shop.Clerk())
        engine.pool("own", ["OWN"], shop.echo, placement="driver")
        registrations = Registrations.from_bytes(engine.registrations().to_bytes())
        assert (registrations.pools, registrations.tools, registrations.model) == ((), (), "")
        assert [spec.name for spec in registrations.specs] == ["secret"]
        assert [kind.name for kind in registrations.kinds] == ["OWN"]


def test_a_pool_that_is_not_on_hosts_is_named() -> None:
    """With those that are; a built-in one has no handler to import."""
    registrations = told().registrations()
    with pytest.raises(ConfigError, match="'state' does not run on hosts; there are: nlp, tools, echo, bulk"):
        registrations.pool("state")
    with pytest.raises(LocalProtocolError, match="built into every engine"):
        registrations.pool("nlp").spec()


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", b"\x93\x01\x02\x03", b"\x81\xa5kinds\x91\x01"])
def test_what_another_version_said_is_refused(data: bytes) -> None:
    """As a ConfigError that says what to do, whatever the bytes are."""
    with pytest.raises(ConfigError, match="same version"):
        Registrations.from_bytes(data)


def test_what_is_not_plain_is_refused_on_this_side() -> None:
    """A schema with an object in it is told before any host sees it."""
    engine = told()
    engine.tools.add(shop.price, name="odd", description=object())
    with pytest.raises(ConfigError, match="plain JSON values"):
        engine.registrations().to_bytes()
