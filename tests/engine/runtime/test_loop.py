"""The loop of a program: tool workers start on it whatever gRPC is doing."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from laneway.engine.runtime.loop import loop_factory

_STARTS = 40
_PROGRAM = """
import asyncio, sys, threading
from laneway.engine.runtime.loop import loop_factory

factory = loop_factory()
import grpc
from laneway.engine.runtime.worker import Worker, WorkerLimits

CALL = "/busy/Echo"
IDENTITY = dict(request_deserializer=None, response_serializer=None)
ended = threading.Event()
calls = [0]

def keep_busy(port):
    while not ended.is_set():
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            echo = channel.unary_unary(CALL)
            for _ in range(20):
                echo(b"x", timeout=30)
                calls[0] += 1

async def main():
    server = grpc.aio.server()
    async def answer(request, context):
        return request
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(
        "busy", {"Echo": grpc.unary_unary_rpc_method_handler(answer, **IDENTITY)}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    busy = [threading.Thread(target=keep_busy, args=(port,)) for _ in range(2)]
    for thread in busy:
        thread.start()
    try:
        for _ in range(STARTS // 4):
            workers = await asyncio.gather(*(Worker.start(WorkerLimits()) for _ in range(4)), return_exceptions=True)
            print("\\n".join("live" if isinstance(one, Worker) and one.alive else repr(one) for one in workers))
            for worker in workers:
                if isinstance(worker, Worker):
                    worker.kill()
                    await worker.reap()
    finally:
        ended.set()
        await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in busy))
        await server.stop(0)
    assert calls[0] > STARTS, calls

with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main())
"""


def test_every_worker_starts_while_grpc_is_at_work() -> None:
    """Beside a server on the loop and clients in threads, all of forty live: none is ended by a fork handler."""
    environ = {name: value for name, value in os.environ.items() if name != "GRPC_ENABLE_FORK_SUPPORT"}
    code = _PROGRAM.replace("STARTS", str(_STARTS))
    result = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[:-1] == ["live"] * _STARTS, result.stderr


def test_what_the_environment_says_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator may have a reason; a loop comes out either way."""
    monkeypatch.setenv("GRPC_ENABLE_FORK_SUPPORT", "1")
    loop = loop_factory()()
    try:
        assert isinstance(loop, asyncio.AbstractEventLoop)
        assert os.environ["GRPC_ENABLE_FORK_SUPPORT"] == "1"
    finally:
        loop.close()
