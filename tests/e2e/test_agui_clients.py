"""The stock AG-UI clients, unmodified, against a real server in another process.

Both lines are driven: @ag-ui/client 1.0.0, and 0.0.59, which CopilotKit builds on.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

from laneway.engine.client import Client
from tests.e2e.serving import Server
from tests.e2e.web import NPM, node, node_script
from tests.engine.edge.agui_rules import check_run

NEW, OLD = "1.0.0", "0.0.59"
SET_UP = ("--setup", "tests.e2e.agui_stage:set_up")
ROOT = Path(__file__).parents[2]
SECRET = "a secret of the tests, long enough for HS256"


def driven(test: Callable[[Server], Awaitable[None]], *options: str, **settings: str) -> None:
    """Run a test against a fresh server."""
    node()

    async def main() -> None:
        async with asyncio.timeout(100), Server("memory", *SET_UP, *options, cwd=ROOT, settings=settings) as server:
            await test(server)

    asyncio.run(main())


async def agent(server: Server, client: str, *says: str, thread: str = "t1", path: str = "/agui", **plan: Any) -> Any:
    """Let one client say these things in one thread; returns what it saw."""
    runs = [{"say": say} for say in says]
    return await node_script(
        "agent.mjs", {"client": client, "url": f"http://{server.http}{path}", "threadId": thread, "runs": runs} | plan
    )


def kinds(run: dict[str, Any]) -> list[str]:
    return [event["type"] for event in run["events"]]


def answer(seen: dict[str, Any]) -> str:
    return str(seen["messages"][-1]["content"])


@pytest.mark.parametrize("client", [NEW, OLD])
def test_runs_are_streamed_to_stock_clients(client: str) -> None:
    """Text, reasoning, a tool of the server, state: nothing is complained about, and the rules hold."""

    async def test(server: Server) -> None:
        seen = await agent(server, client, "say 50", "think", "call", "state", thread=str(uuid.uuid4()))
        assert seen["noise"] == []
        assert [run["error"] for run in seen["runs"]] == [None] * 4
        for run in seen["runs"]:
            check_run(run["events"])
        text, think, call, state = seen["runs"]
        assert kinds(text).count("TEXT_MESSAGE_CONTENT") > 1
        assert "REASONING_MESSAGE_CONTENT" in kinds(think)
        assert [kind for kind in kinds(call) if kind.startswith("TOOL_CALL")] == [
            "TOOL_CALL_START",
            "TOOL_CALL_ARGS",
            "TOOL_CALL_END",
            "TOOL_CALL_RESULT",
        ]
        assert kinds(state)[1:3] == ["STATE_SNAPSHOT", "STATE_DELTA"]
        assert seen["state"] == {"count": 2}
        said = [
            message["content"]
            for message in seen["messages"]
            if message["role"] == "assistant" and "content" in message
        ]
        assert said[0] == "".join(f"word{number} " for number in range(50))
        assert said[-2:] == ["5", "done"]

    driven(test)


@pytest.mark.parametrize("client", [NEW, OLD])
@pytest.mark.parametrize(
    "thread", ["a thread / with ünicode", "x:looks-mapped", "7b1e2d8a-0a3e-4dd4-9d5e-111111111111"]
)
def test_clients_get_their_own_ids_back(client: str, thread: str) -> None:
    """Whatever text they use; a second run in the thread is a run of the same session."""

    async def test(server: Server) -> None:
        seen = await agent(server, client, "say 1", "runs", thread=thread)
        assert seen["noise"] == []
        for run in seen["runs"]:
            assert {event["threadId"] for event in run["events"] if "threadId" in event} == {thread}
            assert len({event["runId"] for event in run["events"] if "runId" in event}) == 1
        assert json.loads(answer(seen)) == {"say 1": 1}

    driven(test)


@pytest.mark.parametrize("client", [NEW, OLD])
def test_a_failed_run_ends_with_its_error(client: str) -> None:
    """RUN_ERROR with our stable code, and the next run of the thread works."""

    async def test(server: Server) -> None:
        seen = await agent(server, client, "fail", "say 1")
        failed, good = seen["runs"]
        assert failed["events"][-1]["type"] == "RUN_ERROR"
        assert failed["events"][-1]["code"] == "MODEL_FAILED"
        assert kinds(good)[-1] == "RUN_FINISHED"
        assert seen["noise"] == []

    driven(test)


@pytest.mark.parametrize(
    ("client", "end"), [(NEW, {"outcome": {"type": "cancelled"}}), (OLD, {"metadata": {"finishedReason": "cancelled"}})]
)
def test_an_interrupt_from_another_client_ends_the_run(client: str, end: dict[str, Any]) -> None:
    """1.0 is told the outcome, which would kill an older client: that one finds it in the metadata."""

    async def test(server: Server) -> None:
        asking = asyncio.create_task(agent(server, client, "wait"))
        async with Client(server.target, session="t1") as watcher:
            async for event in watcher:
                if event.kind == "TEXT_MESSAGE_CONTENT":
                    break
            await watcher.interrupt()
        seen = await asking
        (run,) = seen["runs"]
        assert (run["error"], seen["noise"]) == (None, [])
        check_run(run["events"])
        last = run["events"][-1]
        assert {name: last[name] for name in ("outcome", "metadata") if name in last} == end

    driven(test)


@pytest.mark.parametrize("client", [NEW, OLD])
def test_a_stream_that_breaks_twenty_times_is_whole_and_runs_once(client: str) -> None:
    """With the fetch of examples/web/resume.mjs: every word once, in order, and one run of the model."""

    async def test(server: Server) -> None:
        seen = await agent(server, client, "say 600", "runs", resumable=True, cuts=20)
        assert seen["cut"] == 20
        assert seen["requests"] == 22  # each run asks once, and again after each cut
        assert (seen["noise"], [run["error"] for run in seen["runs"]]) == ([], [None, None])
        for run in seen["runs"]:
            check_run(run["events"])
        assert seen["messages"][1]["content"] == "".join(f"word{number} " for number in range(600))
        assert json.loads(answer(seen)) == {"say 600": 1}

    driven(test)


@pytest.mark.parametrize("client", [NEW, OLD])
def test_the_agent_of_the_path_is_known_to_the_model(client: str) -> None:
    """`/agui/{agent}` is forwarded; where names are configured, another one is 404."""

    async def test(server: Server) -> None:
        seen = await agent(server, client, "props", path="/agui/sales")
        assert json.loads(answer(seen))["agent"] == "sales"
        lost = await agent(server, client, "props", path="/agui/nobody")
        assert lost["runs"][0]["error"]["status"] == 404
        assert lost["runs"][0]["events"] == []

    driven(test, LANEWAY_EDGE__AGENTS='["sales"]')


@pytest.mark.parametrize("client", [NEW, OLD])
def test_who_may_not_is_told_before_anything_runs(client: str) -> None:
    """401 without credentials; with them the run is made."""

    async def test(server: Server) -> None:
        refused = await agent(server, client, "say 1")
        assert refused["statuses"] == [401]
        assert refused["runs"][0]["error"]["status"] == 401
        assert refused["runs"][0]["events"] == []
        now = int(time.time())
        claims = {"sub": "ada", "aud": "laneway", "iss": "tests"}
        token = jwt.encode(claims | {"iat": now, "exp": now + 600}, SECRET, algorithm="HS256")
        seen = await agent(server, client, "say 1", headers={"authorization": f"Bearer {token}"})
        assert seen["runs"][0]["error"] is None

    driven(
        test,
        "--auth",
        "jwt",
        LANEWAY_AUTH__SECRET=SECRET,
        LANEWAY_AUTH__ISSUER="tests",
        LANEWAY_AUTH__AUDIENCE="laneway",
    )


@pytest.mark.parametrize("client", [NEW, OLD])
def test_who_asks_too_fast_is_told_when_to_come_back(client: str) -> None:
    """429 before anything runs, with Retry-After."""

    async def test(server: Server) -> None:
        seen = await agent(server, client, "say 1", "say 2")
        assert seen["statuses"] == [200, 429]
        assert seen["runs"][1]["error"]["status"] == 429
        assert int(seen["retryAfter"][1]) >= 1

    driven(test, LANEWAY_DISPATCH__RATE_PER_S="0.01", LANEWAY_DISPATCH__BURST="1")


def test_the_snippet_of_the_docs_runs() -> None:
    """As it stands in docs/agui.md, but for the address of this server."""
    snippet = (ROOT / "docs" / "agui.md").read_text().partition("```js\n")[2].partition("```")[0]

    async def test(server: Server) -> None:
        code = snippet.replace("127.0.0.1:7701", server.http).replace("./resume", "../../../examples/web/resume")
        process = await asyncio.create_subprocess_exec(
            *(node(), "--input-type=module", "-e", code),
            cwd=NPM,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, errors = await process.communicate()
        assert (said.decode(), errors.decode()) == ("done\n", "")

    driven(test)


def test_the_lock_names_no_host() -> None:
    """Whoever installs it takes the packages from where they take packages."""
    lock = (NPM / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    pinned = json.loads((NPM / "package.json").read_text())["dependencies"]
    assert all(version.removeprefix("npm:@ag-ui/client@")[0].isdigit() for version in pinned.values())
