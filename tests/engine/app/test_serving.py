"""From configuration to an edge."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from laneway.engine.app.engine import Engine
from laneway.engine.app.serving import grpc_options, http_options
from laneway.engine.config import Config
from laneway.engine.edge.asgi import Asgi
from laneway.engine.edge.auth import JwtAuthenticator, no_auth
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.errors import ConfigError, StoreError, TokenInvalid
from tests.engine.edge.driver import Call, ask, scope

SECRET = "0123456789abcdef0123456789abcdef"
JWT = {"mode": "jwt", "issuer": "https://id.example", "audience": "laneway"}


def _token(secret: str = SECRET) -> str:
    now = int(time.time())
    claims = {"sub": "ada", "iss": JWT["issuer"], "aud": "laneway", "iat": now, "exp": now + 60, "scope": "admin"}
    return jwt.encode(claims, secret, "HS256")


def test_the_defaults_are_loopback_and_open() -> None:
    """As far as this machine goes."""
    options = grpc_options(Config())
    assert (options["host"], options["port"], options["tls"]) == ("127.0.0.1", 7700, None)
    assert options["authenticate"] is no_auth
    assert grpc_options(Config.model_validate({"edge": {"grpc": "[::1]:0"}}))["host"] == "[::1]"


def test_a_secret_checks_tokens() -> None:
    """Tokens of our issuer for us count, others do not."""
    options = grpc_options(Config.model_validate({"auth": {**JWT, "secret": SECRET}}))
    hook = options["authenticate"]
    assert isinstance(hook, JwtAuthenticator)
    principal = hook({"authorization": f"Bearer {_token()}"})
    assert (principal.subject, principal.scopes) == ("ada", frozenset({"admin"}))
    with pytest.raises(TokenInvalid):
        hook({"authorization": f"Bearer {_token('f' * 32)}"})


def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Before anything listens."""
    config = Config.model_validate({"auth": {**JWT, "public_keys": {"k1": str(tmp_path / "none.pem")}}})
    with pytest.raises(ConfigError, match=r"none\.pem"):
        grpc_options(config)


# ---- HTTP ---------------------------------------------------------------------------------------


def _app(engine: Engine) -> Asgi:
    options = http_options(Config.model_validate({"auth": {**JWT, "secret": SECRET}}))
    return engine.asgi(authenticate=options["authenticate"])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, ""),
        ({"exp": -10}, "TOKEN_EXPIRED"),
        ({"aud": "other"}, "TOKEN_INVALID"),
        ({"iss": "other"}, "TOKEN_INVALID"),
        ({"iat": 60}, "TOKEN_INVALID"),
        ({"exp": 999_999}, "TOKEN_INVALID"),
    ],
)
def test_tokens_over_http(changes: dict[str, object], code: str) -> None:
    """401 with our code before any session is made; the same hook as for gRPC. Numbers are seconds from now."""
    now = int(time.time())
    changes = {name: now + change if isinstance(change, int) else change for name, change in changes.items()}
    claims = {"sub": "ada", "iss": JWT["issuer"], "aud": "laneway", "iat": now - 60, "exp": now + 60}
    token = jwt.encode({**claims, **changes}, SECRET, "HS256")

    async def main() -> None:
        async with Engine() as engine:
            app = _app(engine)
            bearer = {"authorization": f"Bearer {token}", "content-type": "application/json"}
            answer = await ask(app, "POST", "/v1/handshake", bearer, b"{}")
            assert (answer.status, answer.json.get("code", "")) == ((401, code) if code else (200, ""))
            for path in ("/v1/tools", "/metrics"):
                assert (await ask(app, "GET", path)).json["code"] == "UNAUTHENTICATED"
            assert (await ask(app, "GET", "/v1/tools", {"authorization": "Bearer " + "x" * 9000})).status in (401, 413)
            assert (await ask(app, "GET", f"/v1/tools?t={token}")).json["reason"] == "TOKEN_IN_URL"
            assert (await ask(app, "GET", "/healthz")).status == 200
            assert engine.statistics()[1].sessions == 0

    asyncio.run(main())


def test_an_engine_mounted_into_another_application() -> None:
    """Below any path, with the host application's routes beside it; closing the engine ends its streams."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    async def home(request: object) -> PlainTextResponse:
        return PlainTextResponse("home")

    async def main() -> None:
        engine = Engine(Config.model_validate({"nlp": {"model": "tests.engine.app.shop:make_model"}}))
        await engine.start()
        outer: Any = Starlette(routes=[Route("/", home), Mount("/deep/engine", app=engine.asgi())])
        assert (await ask(outer, "GET", "/")).body == b"home"
        assert (await ask(outer, "GET", "/deep/engine/readyz")).body in (b"ready\n",)
        body = b'{"session": "s1", "message": "Hello?"}'
        answer = await ask(outer, "POST", "/deep/engine/v1/stream", {"content-type": "application/json"}, body)
        assert answer.json["text"].startswith("[SYNTHETIC]")
        given = scope("GET", "/deep/engine/v1/stream?session=s1", {"accept": "text/event-stream"})
        call = Call(outer, given)
        call.feed(b"")
        assert (await call.next())["status"] == 200
        await engine.close(0.1)
        async with asyncio.timeout(60):
            await call.task
        assert (await ask(outer, "GET", "/deep/engine/readyz")).status == 503

    asyncio.run(main())


def test_without_authentication_a_mounted_engine_serves_this_machine_only() -> None:
    """Whatever the host application listens on."""

    async def main() -> None:
        async with Engine() as engine:
            app = engine.asgi()
            assert (await ask(app, "GET", "/v1/tools")).status == 200
            assert (await ask(app, "GET", "/v1/tools", server=("10.1.2.3", 80))).status == 421
            assert (await ask(app, "GET", "/v1/tools", {"host": "evil.example"})).status == 421

    asyncio.run(main())


def test_a_public_http_edge_needs_tls_and_authentication() -> None:
    """As for gRPC; in the options an operator gives, and before anything listens."""

    async def main() -> None:
        async with Engine() as engine:
            with pytest.raises(ConfigError, match="without TLS and authentication"):
                await engine.serve_http(host="0.0.0.0")
            edge = await engine.serve_http()
            assert edge.port

    asyncio.run(main())


def test_readiness_says_what_is_wrong() -> None:
    """Before the start, and while the log cannot be written."""

    class Sick(MemoryStore):
        sick = True

        async def append(self, *arguments: Any, **options: Any) -> Any:
            if self.sick:
                raise StoreError("disk full")
            return await super().append(*arguments, **options)

    async def main() -> None:
        store = Sick()
        engine = Engine(store=store)
        app = engine.asgi()
        assert (await ask(app, "GET", "/readyz")).json["code"] == "DRAINING"
        async with engine:
            await engine.recovered()
            assert (await ask(app, "GET", "/readyz")).status == 200
            body = b'{"session": "s1", "message": "hi", "deadline_ms": 100}'
            await ask(app, "POST", "/v1/stream", {"content-type": "application/json"}, body)
            assert (await ask(app, "GET", "/readyz")).json["code"] == "STORE_UNAVAILABLE"
            store.sick = False

    asyncio.run(main())
