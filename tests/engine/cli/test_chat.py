"""`laneway chat` in a process of its own."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path

from tests.e2e.serving import COMMAND, Server, clean_environment


async def _chat(target: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(*COMMAND, "chat", "--grpc", target, "--session", "terminal"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(PYTHONUNBUFFERED="1"),
    )


def test_questions_are_answered_until_the_input_ends(served: str) -> None:
    """Text, tool calls and their results are shown."""

    async def main() -> None:
        process = await _chat(served)
        async with asyncio.timeout(30):
            output, errors = await process.communicate(b'hello\n\ncall weather {"city": "Oslo"}\n')
        assert process.returncode == 0, errors.decode()
        text = output.decode()
        assert "[SCRIPTED] you said: hello" in text
        assert "-> weather" in text
        assert "<- " in text
        assert "the tool returned" in text

    asyncio.run(main())


def test_ctrl_c_stops_the_answer_and_then_leaves(tmp_path: Path) -> None:
    """The first one interrupts the run, which the screen shows; at the prompt it ends the chat with 0."""

    async def main() -> None:
        async with asyncio.timeout(60), Server(tmp_path / "engine.db") as server:
            process = await _chat(server.target)
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"a long answer, please\n")
            await process.stdout.readuntil(b"[SYNTHETIC]")
            process.send_signal(signal.SIGINT)
            await process.stdout.readuntil(b"(cancelled)\n> ")
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0

    asyncio.run(main())


def test_nobody_there(tmp_path: Path) -> None:
    """One line says where it tried."""

    async def main() -> None:
        async with Server("memory") as server:
            target = server.target
        process = await _chat(target)
        async with asyncio.timeout(30):
            _, errors = await process.communicate()
        assert process.returncode == 1
        assert "Traceback" not in errors.decode()
        assert "laneway: " in errors.decode()

    asyncio.run(main())
