"""A page that talks to an engine in the same process: ``python -m examples.web``, then open what it prints.

The page is plain files; the engine is mounted below /engine of the same application, so page and
stream have one origin. The answers come from a labelled generator, or with ``--model local-llm``
from a small real model.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from laneway import Config, Engine

HERE = Path(__file__).parent
ABOUT = {
    "synthetic": "answers come from a labelled generator, not from an AI",
    "local-llm": "answers come from a small language model on this machine",
}
POLICY = "default-src 'self'; connect-src 'self'; frame-ancestors 'none'"


class Files(StaticFiles):
    """The page, allowed to load nothing from elsewhere."""

    def file_response(self, *args: object, **more: object) -> Response:
        response = super().file_response(*args, **more)  # type: ignore[arg-type]
        response.headers["content-security-policy"] = POLICY
        response.headers["cache-control"] = "no-cache"
        return response


def application(engine: Engine, model: str) -> Starlette:
    """Page and engine in one application."""

    async def about(request: Request) -> JSONResponse:
        return JSONResponse({"model": ABOUT[model]})

    files = Files(directory=HERE, html=True)
    return Starlette(routes=[Mount("/engine", engine.asgi()), Route("/about.json", about), Mount("/", files)])


async def main(port: int, model: str) -> None:
    """Serve until interrupted."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        async with Engine(Config(nlp={"model": model})) as engine:
            config = uvicorn.Config(application(engine, model), log_level="warning", ws="websockets-sansio")
            print(f"open http://127.0.0.1:{listener.getsockname()[1]}/", flush=True)
            await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m examples.web", description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="port 0 = any free one")
    parser.add_argument("--model", choices=sorted(ABOUT), default="synthetic")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.port, arguments.model))
