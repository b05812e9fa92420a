"""HAProxy, nginx and Envoy with the files of deploy/, for real: clients on one side, two engines on the other."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from laneway.engine.client import Client, Trust
from tests.deploy.proxies import KINDS, ProxyProcess, checked
from tests.e2e.serving import Server
from tests.engine.edge.rawclient import ask
from tests.outside import require
from tests.ports import held_ports

QUIET = {"LANEWAY_SESSION__HEARTBEAT_S": "300"}
"""No heartbeat pushes on what a proxy holds back: a test of buffering would pass by accident."""


@dataclass(frozen=True)
class Stage:
    """Two engines with one store, and a proxy in front of them; sessions are its own."""

    kind: str
    proxy: ProxyProcess
    servers: tuple[Server, Server]

    @property
    def trust(self) -> Trust:
        return Trust(roots=self.proxy.roots.read_bytes())

    def client(self, session: str, **more: Any) -> Client:
        return Client(self.proxy.grpc, session=f"{self.kind}-{session}", tls=self.trust, **more)

    async def curl(self, path: str, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            require("curl", package="curl"), "-sS", "-N", "--max-time", "30", "--cacert", str(self.proxy.roots),
            *arguments, f"https://{self.proxy.web}{path}", stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def post(self, path: str, body: dict[str, Any], *arguments: str) -> asyncio.subprocess.Process:
        return await self.curl(path, "-H", "content-type: application/json", "-d", json.dumps(body), *arguments)


@asynccontextmanager
async def engines(folder: Path) -> AsyncIterator[tuple[Server, Server]]:
    async with AsyncExitStack() as stack:
        opened = (Server(folder / "engine.db", "--drain-s", "1", model="scripted", settings=QUIET) for _ in range(2))
        first, second = [await stack.enter_async_context(each) for each in opened]
        yield first, second


@asynccontextmanager
async def staged(kind: str, folder: Path, servers: tuple[Server, Server]) -> AsyncIterator[Stage]:
    fronts = [(each.target, each.http) for each in servers]
    with held_ports(3) as ports:
        async with ProxyProcess(kind, folder, fronts, ports) as proxy:
            yield Stage(kind, proxy, servers)


@dataclass(frozen=True)
class Played:
    """A stage and the loop it lives on."""

    runner: asyncio.Runner
    stage: Stage

    def run(self, play: Any) -> None:
        async def within() -> None:
            async with asyncio.timeout(100):
                await play

        self.runner.run(within())


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, tuple[Server, Server]]]:
    """Two engines for all proxies, for the tests that leave them as they are, and the loop they live on."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        yield runner, runner.run(stack.enter_async_context(engines(tmp_path_factory.mktemp("engines"))))
        runner.run(stack.aclose())


@pytest.fixture(scope="module", params=KINDS)
def played(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    lasting: tuple[asyncio.Runner, tuple[Server, Server]],
) -> Iterator[Played]:
    """A proxy before them."""
    runner, servers = lasting
    stack = AsyncExitStack()
    folder = tmp_path_factory.mktemp(request.param)
    yield Played(runner, runner.run(stack.enter_async_context(staged(request.param, folder, servers))))
    runner.run(stack.aclose())


@pytest.mark.parametrize("kind", KINDS)
def test_the_proxy_accepts_its_file(kind: str, tmp_path: Path) -> None:
    """As it is in deploy/, but for the certificates; nothing to warn about either."""
    code, said = asyncio.run(checked(kind, tmp_path))
    assert code == 0, said
    assert not any(word in said.lower() for word in ("[warn", "warning", "deprecated"))


async def _answer(client: Client, text: str) -> str:
    """Send, and return the whole text of the run."""
    await client.send(text)
    return "".join([event.text or "" async for event in _run(client)])


async def _run(client: Client) -> AsyncIterator[Any]:
    async for event in client:
        yield event
        assert event.kind != "RUN_ERROR", event
        if event.kind == "RUN_FINISHED":
            return


def test_a_grpc_session_holds(played: Played) -> None:
    """A client with its own heartbeats off: many messages on one stream, none lost, never reconnected."""

    async def play() -> None:
        async with played.stage.client("held", heartbeat_s=300, dead_after_s=600) as client:
            for n in range(20):
                assert await _answer(client, f"question {n}")
            assert client.reconnects == 0

    played.run(play())


def test_a_grpc_stream_carries_more_than_a_body_may(played: Played) -> None:
    """More than a MB in one stream: a proxy's limit of bodies does not end it."""

    async def play() -> None:
        async with played.stage.client("much") as client:
            for n in range(5):
                assert await _answer(client, f"{n}" + "y" * 250_000)
            assert client.reconnects == 0

    played.run(play())


async def _frames(process: asyncio.subprocess.Process) -> AsyncIterator[dict[str, Any]]:
    assert process.stdout is not None
    async for line in process.stdout:
        if line.startswith(b"data: "):
            yield json.loads(line.removeprefix(b"data: "))


def test_events_arrive_one_by_one(played: Played) -> None:
    """A stream that never ends gives each answer at once, though nothing follows that would push it on."""

    async def play() -> None:
        body = {"session": f"{played.stage.kind}-events", "client": "c1"}
        process = await played.stage.post("/v1/stream", body, "-H", "accept: text/event-stream")
        frames = _frames(process)
        welcome = (await anext(frames))["header"]["welcome"]
        for counter in range(1, 4):
            sent = {"events": [{"counter": counter, "kind": "USER_MESSAGE", "text": "Hello?"}]}
            posting = await played.stage.post(f"/v1/stream/{welcome['link']}/send", sent)
            answers = json.loads((await posting.communicate())[0])["answers"]
            assert answers == [{"counter": counter, "status": "durable"}]
            async for frame in frames:
                if any(event["kind"] == "RUN_FINISHED" for event in frame.get("events", ())):
                    break
        process.kill()
        await process.wait()

    played.run(play())


def test_a_websocket_works(played: Played) -> None:
    """Upgraded through TLS, both ways, and its page is one of the same origin."""

    async def play() -> None:
        stage = played.stage
        trust = ssl.create_default_context(cafile=stage.proxy.roots)
        page = f"https://{stage.proxy.web}"
        async with connect(
            f"wss://{stage.proxy.web}/v1/stream",
            subprotocols=["laneway.v1.json"],
            ssl=trust,
            origin=page,  # type: ignore[list-item, arg-type]
        ) as made:
            await made.send(
                json.dumps({"header": {"hello": {"v": [1], "client": "w1", "session": f"{stage.kind}-ws"}}})
            )
            assert "welcome" in json.loads(await made.recv())["header"]
            sent = {"counter": 1, "kind": "USER_MESSAGE", "text": "Hello?"}
            await made.send(json.dumps({"header": {}, "events": [sent]}))
            kinds: list[str] = []
            while "RUN_FINISHED" not in kinds:
                kinds += [event["kind"] for event in json.loads(await made.recv()).get("events", ())]

    played.run(play())


def test_an_upload_that_is_too_large_is_refused_by_the_engine(played: Played, tmp_path: Path) -> None:
    """Our status and our words come back, not the proxy's page (over HTTP/2 curl may lose an early answer)."""

    async def play() -> None:
        (tmp_path / "large").write_bytes(b"{" + b" " * 8_000_000 + b"}")
        process = await played.stage.curl(
            "/v1/stream", "--http1.1", "-H", "content-type: application/json", "-H", "expect:",
            "--data-binary", f"@{tmp_path / 'large'}", "-w", "\n%{http_code}",
        )  # fmt: skip
        body, _, status = (await process.communicate())[0].decode().rpartition("\n")
        assert (status, json.loads(body)["reason"]) == ("413", "TOO_LARGE")

    played.run(play())


def test_metrics_stay_inside(played: Played) -> None:
    """A page for Prometheus only; that a front is ready may be asked from outside."""

    async def play() -> None:
        for path, expected in (("/metrics", b"404"), ("/readyz", b"200")):
            process = await played.stage.curl(path, "-o", "/dev/null", "-w", "%{http_code}")
            assert (await process.communicate())[0] == expected

    played.run(play())


async def _home(servers: tuple[Server, Server], sessions: int) -> Server:
    """Return the engine that has a link now."""
    for server in servers:
        status = (await ask(server.target, {"call": "status"}))["result"]
        if status["sessions"]["links"] == sessions:
            return server
    raise AssertionError("no engine has the link")


@pytest.mark.parametrize("kind", KINDS)
def test_a_drained_front_costs_a_reconnect(kind: str, tmp_path: Path) -> None:
    """SIGTERM of the front that holds the session: the client goes on at the other, which has the same store."""

    async def main() -> None:
        async with (
            asyncio.timeout(60),
            engines(tmp_path) as servers,
            staged(kind, tmp_path, servers) as stage,
            stage.client("drained") as client,
        ):
            assert await _answer(client, "before")
            home = await _home(servers, 1)
            code, _ = await home.stop()
            assert code == 0, home.errors
            assert await _answer(client, "after")
            assert client.reconnects >= 1
            (other,) = (server for server in servers if server is not home)
            assert await _home((other, other), 1) is other

    asyncio.run(main())
