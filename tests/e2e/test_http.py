"""HTTP clients that are not ours against a real server: curl, websockets, and plain sockets."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from laneway.engine.client import Client
from laneway.engine.frames import Frames
from laneway.engine.models.synthetic import SyntheticModel
from laneway.engine.testing.proxy import Proxy
from laneway.routing.classify import KindTable
from laneway.routing.envelope import BODY, KIND, envelope
from tests.e2e.serving import Server
from tests.engine.edge.rawclient import ask
from tests.outside import require

DOCS = Path(__file__).parents[2] / "docs" / "protocol.md"
FRAMES = Frames(KindTable(), lambda: 0.0)
FLOOD = '''
from laneway.actors.nlp import vocabulary


class Flood:
    """4,000 words, as fast as they are taken: six windows of credit, and no more than a busy machine carries in 25 s,
    after which a link whose client says nothing is lost."""

    async def stream(self, run, context):
        message = f"{context.run}-text"
        yield vocabulary.text_start(message)
        for n in range(4_000):
            yield vocabulary.text(message, f"{n:05d}" + "x" * 94 + " ")
        yield vocabulary.text_end(message)


def setup(engine):
    engine.nlp.use(Flood())
'''
FLOODED = "".join(f"{n:05d}" + "x" * 94 + " " for n in range(4_000))


async def curl(*arguments: str, within_s: int = 20) -> tuple[int, str]:
    """Exit code and output."""
    process = await asyncio.create_subprocess_exec(
        require("curl", package="curl"), "-sS", "-N", "--max-time", str(within_s), *arguments, stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


class EventSource:
    """A reader of one event stream over a plain socket; `seqs` and `text` live through reconnects."""

    def __init__(self, session: str, client: str) -> None:
        self.session = session
        self.client = client
        self.id = ""
        self.text = ""
        self.kinds: list[str] = []
        self.ids: list[str] = []
        self.resumes: list[str] = []
        self.link = ""

    @asynccontextmanager
    async def opened(self, address: str, **body: Any) -> AsyncIterator[asyncio.StreamReader]:
        """One connection, by POST."""
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        content = json.dumps({"session": self.session, "client": self.client, **body}).encode()
        resume = f"Last-Event-ID: {self.id}\r\n" if self.id else ""
        writer.write(
            f"POST /v1/stream HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{resume}"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            + content
        )
        try:
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            yield reader
        finally:
            writer.transport.abort()

    async def take(self, reader: asyncio.StreamReader) -> dict[str, Any]:
        """Read one message. Raises asyncio.IncompleteReadError when the stream is over."""
        while True:
            await reader.readuntil(b"\r\n")  # the size of a chunk, which is one message
            message = (await reader.readuntil(b"\n\n")).decode()
            await reader.readexactly(2)
            if message.startswith(":"):
                continue
            lines = message.strip().split("\n")
            frame: dict[str, Any] = json.loads(lines[-1].removeprefix("data: "))
            self.id = lines[0].removeprefix("id: ")
            if "welcome" in frame["header"]:
                self.resumes.append(frame["header"]["welcome"]["resume"])
                self.link = frame["header"]["welcome"]["link"]
            if "stream" in frame["header"]:
                self._keep(frame["events"])
            return frame

    def _keep(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            self.kinds.append(event["kind"])
            self.ids.append(f"{event['producer']}:{event['counter']}")
            if event["kind"] == "TEXT_MESSAGE_CONTENT":
                self.text += event["text"]

    @property
    def over(self) -> bool:
        """A run has ended."""
        return bool({"RUN_FINISHED", "RUN_ERROR"} & set(self.kinds))


def message(text: str, counter: int = 1) -> dict[str, Any]:
    return {"counter": counter, "kind": "USER_MESSAGE", "text": text}


@asynccontextmanager
async def socket(
    address: str, subprotocol: str, session: str, client: str, **hello: Any
) -> AsyncIterator[ClientConnection]:
    """An upgraded connection that has been welcomed."""
    async with connect(f"ws://{address}/v1/stream", subprotocols=[subprotocol], max_queue=1) as made:  # type: ignore[list-item]
        header = {"hello": {"v": [1], "client": client, "session": session, **hello}}
        await made.send(json.dumps({"header": header}) if subprotocol.endswith("json") else FRAMES.encode(header, ()))
        yield made


def packed_message(text: str, client: str) -> bytes:
    env = envelope(
        "USER_MESSAGE", producer=client, counter=1, tenant="", session="", lane=1, run="", body=text.encode()
    )
    return FRAMES.encode({}, [env])


async def paused(server: Server, runs: int) -> None:
    """Wait until that many producers wait for credit."""
    while (await ask(server.target, {"call": "status"}))["result"]["sessions"]["paused"] != runs:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


# ---- curl ---------------------------------------------------------------------------------------


def _quick(directory: Path) -> Server:
    """A server whose answers take no time: the synthetic model speaks for two seconds."""
    settings = {"PYTHONPATH": str(DOCS.parents[1])}
    return Server(directory / "engine.db", model="tests.engine.app.shop:make_model", settings=settings)


def test_the_commands_of_the_documentation_work(tmp_path: Path) -> None:
    """Each in order, with the server's own address, epoch and link in their places."""
    commands = re.findall(r"^```sh\n(.*?)```$", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    require("curl", package="curl")

    async def main() -> None:
        async with asyncio.timeout(60), _quick(tmp_path) as server:
            outputs = []
            live = EventSource("s1", "c2")
            async with live.opened(server.http) as reader:
                await live.take(reader)
                epoch = live.id.split(".")[0]
                for command in commands:
                    streams = "accept: text/event-stream" in command
                    here = command.replace("127.0.0.1:7701", server.http).replace("EPOCH", epoch)
                    here = here.replace("LINK", live.link).replace("curl ", "curl -m 2 " if streams else "curl -f ")
                    process = await asyncio.create_subprocess_exec("sh", "-ec", here, stdout=subprocess.PIPE)
                    output = (await process.communicate())[0].decode()
                    assert process.returncode == (28 if streams else 0), command  # 28: a stream goes on
                    outputs.append(output)
            answer, stream, resumed, sent, granted, offered, service = outputs
            assert json.loads(answer)["text"].startswith("[SYNTHETIC]")
            assert '"resume":"new"' in stream
            assert "RUN_FINISHED" in stream
            assert '"resume":"resumed"' in resumed
            assert '"first":4' in resumed
            assert json.loads(sent)["answers"] == [{"counter": 2, "status": "durable"}]
            assert granted == ""
            assert json.loads(offered)["plan"]["chunk_chars"] == 50
            for part in ('{"tools":[]}', "ok\n", "ready\n", "# TYPE laneway_"):
                assert part in service
            assert (await server.stop())[0] == 0
            assert "ticket" not in server.errors

    asyncio.run(main())


def test_a_repeated_request_runs_nothing_twice(tmp_path: Path) -> None:
    """The same client and counter get the same answer again."""

    async def main() -> None:
        async with asyncio.timeout(60), _quick(tmp_path) as server:
            body = json.dumps({"session": "s1", "client": "c1", "events": [message("Hello?")]})
            asked = (f"http://{server.http}/v1/stream", "-H", "content-type: application/json", "-d", body)
            first, second = json.loads((await curl(*asked))[1]), json.loads((await curl(*asked))[1])
            assert first["text"] == second["text"] != ""
            assert [each["answers"][0]["status"] for each in (first, second)] == ["durable", "duplicate"]
            assert first["cursor"] == second["cursor"]

    asyncio.run(main())


# ---- order, resume, credit ----------------------------------------------------------------------


def test_all_transports_of_a_session_see_the_same(tmp_path: Path) -> None:
    """gRPC, WebSocket in both forms and events: the same events in the same order, and two runs at once."""

    async def over_socket(server: Server, subprotocol: str, ready: asyncio.Event) -> list[str]:
        seen: list[str] = []
        async with socket(server.http, subprotocol, "s1", f"ws-{len(subprotocol)}") as made:
            await made.recv()
            ready.set()
            while sum(row.startswith("RUN_FINISHED") for row in seen) < 2:
                raw = await made.recv()
                if isinstance(raw, str):
                    seen += [
                        _row(each["kind"], each["run"], each.get("text", "")) for each in json.loads(raw)["events"]
                    ]
                    continue
                for env in FRAMES.decode(raw)[1]:
                    seen.append(_row(env[KIND], env[5], env[BODY].decode() if env[KIND] == _TEXT else ""))
        return seen

    async def over_events(server: Server, ready: asyncio.Event) -> list[str]:
        source, seen = EventSource("s1", "sse"), list[str]()
        async with source.opened(server.http) as reader:
            await source.take(reader)
            ready.set()
            while source.kinds.count("RUN_FINISHED") < 2:
                for each in (await source.take(reader))["events"]:
                    seen.append(_row(each["kind"], each["run"], each.get("text", "")))
        return seen

    async def main() -> None:
        async with (
            asyncio.timeout(60),
            Server(tmp_path / "engine.db") as server,
            Client(server.target, session="s1") as client,
        ):
            ready = [asyncio.Event() for _ in range(3)]
            others = [
                asyncio.create_task(over_socket(server, "laneway.v1", ready[0])),
                asyncio.create_task(over_socket(server, "laneway.v1.json", ready[1])),
                asyncio.create_task(over_events(server, ready[2])),
            ]
            await asyncio.gather(*(each.wait() for each in ready))
            await asyncio.gather(client.send("one"), client.send("two"))
            mine: list[str] = []
            async for event in client:
                mine.append(_row(event.kind, event.run, event.text))
                if sum(row.startswith("RUN_FINISHED") for row in mine) == 2:
                    break
            for seen in await asyncio.gather(*others):
                assert _joined(seen) == _joined(mine)

    asyncio.run(main())


_TEXT = "TEXT_MESSAGE_CONTENT"


def _row(kind: str, run: str, text: str) -> str:
    return f"{kind} {run} {text}"


def _joined(rows: list[str]) -> str:
    """Adjacent deltas of a run may be merged differently for each client."""
    parts, last = [], ""
    for row in rows:
        kind, run, text = row.split(" ", 2)
        parts.append(text if f"{kind} {run}" == last and kind == _TEXT else f"\n{row}")
        last = f"{kind} {run}"
    return "".join(parts)


def test_cuts_in_the_middle_of_a_token_stream_lose_and_repeat_nothing(tmp_path: Path) -> None:
    """An event stream behind a proxy that resets it again and again."""

    async def main() -> None:
        async with asyncio.timeout(90), Server(tmp_path / "engine.db") as server:
            async with Proxy(int(server.http.rpartition(":")[2])) as proxy:
                source = EventSource("s1", "c1")
                body: dict[str, Any] = {"events": [message("Hello?")]}
                while not source.over:
                    if proxy.cuts < 5:
                        proxy.cut_after(3_000)
                    try:
                        async with source.opened(proxy.target, **body) as reader:
                            while not source.over:
                                await source.take(reader)
                                body = {}  # it was taken in with the welcome
                    except (asyncio.IncompleteReadError, ConnectionResetError):
                        continue
                assert proxy.cuts == 5
            assert source.text == "".join(SyntheticModel().words("s1", "Hello?"))
            assert len(set(source.ids)) == len(source.ids)
            assert source.resumes == ["new"] + ["resumed"] * (len(source.resumes) - 1)

    asyncio.run(main())


def test_a_stream_resumes_from_the_disk_after_kill_9(tmp_path: Path) -> None:
    """Another process goes on with the same epoch and the next seq; the lost run ends with an error."""

    async def main() -> None:
        source = EventSource("s1", "c1")
        async with asyncio.timeout(90):
            async with (
                Server(tmp_path / "engine.db") as server,
                source.opened(server.http, events=[message("Hi")]) as reader,
            ):
                while len(source.text) < 100:
                    await source.take(reader)
                await server.kill()
            async with Server(tmp_path / "engine.db") as server, source.opened(server.http) as reader:
                while not source.over:
                    frame = await source.take(reader)
                assert source.resumes == ["new", "resumed"]
                assert frame["events"][-1]["data"]["code"] == "HOST_LOST"
            assert "".join(SyntheticModel().words("s1", "Hi")).startswith(source.text)
            assert len(set(source.ids)) == len(source.ids)

    asyncio.run(main())


def test_a_client_that_stops_reading_pauses_its_run(tmp_path: Path) -> None:
    """Over WebSocket, event stream and gRPC alike: the producer waits, and goes on where it stopped."""
    (tmp_path / "flood.py").write_text(FLOOD)

    async def by_socket(server: Server) -> None:
        async with socket(server.http, "laneway.v1", "ws", "c1") as made:
            await made.send(packed_message("go", "c1"))
            text, position, sent, cursor = b"", 0, 0, 0
            await paused(server, 1)
            while True:
                raw = await made.recv()
                assert isinstance(raw, bytes)
                header, envelopes = FRAMES.decode(raw)
                if "stream" in header:
                    shape = header.get("shape") or [(1, 0)] * len(envelopes)
                    for env, (span, tail, *_) in zip(envelopes, shape, strict=True):
                        whole = span - 1 if tail else span
                        position, cursor = position + len(env[BODY]) + 16 * whole, cursor + whole
                        text += env[BODY] if env[KIND] == _TEXT else b""
                        if env[KIND] == "RUN_FINISHED":
                            assert text.decode() == FLOODED
                            return
                if position + 65_536 > sent + 16_384:
                    sent = position + 65_536
                    await made.send(FRAMES.encode({"grant": sent}, ()))

    async def by_events(server: Server) -> None:
        source = EventSource("sse", "c1")
        async with source.opened(server.http, caps={"grants": True}, events=[message("go")]) as reader:
            await paused(server, 1)
            await source.take(reader)
            path = f"http://{server.http}/v1/stream/{source.link}/grant"
            granted = await curl(path, "-f", "-H", "content-type: application/json", "-d", '{"grant": 1000000000}')
            assert granted[0] == 0
            while not source.over:  # a link lets its producers run at most 1 MiB ahead of what it has sent
                await source.take(reader)
        assert source.text == FLOODED

    async def by_grpc(server: Server) -> None:
        async with Client(server.target, session="grpc") as client:
            await client.send("go")
            await paused(server, 1)
            text = ""
            async for event in client:
                text += event.text
                if event.ends_run:
                    break
            assert text == FLOODED

    async def main() -> None:
        async with asyncio.timeout(110), Server("memory", "--setup", "flood:setup", cwd=tmp_path) as server:
            for way in (by_socket, by_events, by_grpc):
                await way(server)
                await paused(server, 0)

    asyncio.run(main())


# ---- many, and malformed ------------------------------------------------------------------------


def test_many_streams_at_once(tmp_path: Path) -> None:
    """100 sessions, each heard over WebSocket and events: every run ends on both, and all leave."""

    async def one(server: Server, n: int) -> None:
        source = EventSource(f"s{n}", "sse")
        async with (
            source.opened(server.http) as reader,
            socket(server.http, "laneway.v1.json", f"s{n}", "ws", caps={"grants": False}) as made,
        ):
            await source.take(reader)
            await made.recv()
            await made.send(json.dumps({"events": [message("Hello?")]}))
            text = ""
            while "RUN_FINISHED" not in (raw := str(await made.recv())):
                text += "".join(each.get("text", "") for each in json.loads(raw)["events"])
            text += "".join(each.get("text", "") for each in json.loads(raw)["events"])
            while not source.over:
                await source.take(reader)
            assert source.text == text != ""

    async def main() -> None:
        async with asyncio.timeout(110), Server("memory", model="scripted") as server:
            await asyncio.gather(*(one(server, n) for n in range(100)))
            while (await ask(server.target, {"call": "status"}))["result"]["sessions"]["links"]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            assert (await server.stop())[0] == 0
            assert "Traceback" not in server.errors

    asyncio.run(main())
