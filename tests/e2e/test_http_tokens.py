"""Bad tokens against a real HTTP port: 401 and a stable code, before any session, and nothing is fetched."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac as mac
import json
import socket
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from laneway.engine.edge.auth import JwtAuthenticator, JwtPolicy
from tests.e2e.doors import SECRET, Door, claims, door, hmac, token

_FORMAT = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _key() -> tuple[rsa.RSAPrivateKey, bytes]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key, key.public_key().public_bytes(*_FORMAT)


def _part(document: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def _signed(header: dict[str, Any], secret: bytes) -> str:
    text = f"{_part(header)}.{_part(claims())}"
    return f"{text}.{base64.urlsafe_b64encode(mac.digest(secret, text.encode(), hashlib.sha256)).rstrip(b'=').decode()}"


async def _code(here: Door, bearer: str) -> tuple[int, str]:
    answer = await here.post("/v1/stream", bearer, {"session": "s", "message": "hi"})
    return answer.status, answer.json.get("code", "")


def test_an_algorithm_that_is_not_ours() -> None:
    """Unsigned, or signed with our own secret by another rule (A2)."""

    async def main() -> None:
        async with door(hmac()) as here:
            for algorithm in ("none", "None", "NoNe", "NONE", "", "hs256", "HS384", "RS256"):
                unsigned = f"{_part({'alg': algorithm})}.{_part(claims())}."
                for bearer in (_signed({"alg": algorithm}, SECRET.encode()), unsigned):
                    assert await _code(here, bearer) == (401, "TOKEN_INVALID"), algorithm
            assert here.sessions == 0
            assert await _code(here, token()) == (200, "")

    asyncio.run(main())


def test_a_public_key_is_no_secret() -> None:
    """An HMAC made with the RSA key that everybody may know (A3)."""
    key, public = _key()

    async def main() -> None:
        check = JwtAuthenticator({"k1": public}, JwtPolicy("laneway", "me", algorithms=("RS256",)))
        async with door(check) as here:
            for header in ({"alg": "HS256", "kid": "k1"}, {"alg": "RS256", "kid": "k1"}):
                assert await _code(here, _signed(header, public)) == (401, "TOKEN_INVALID")
            good = jwt.encode(claims(), key, "RS256", headers={"kid": "k1"})
            assert await _code(here, good) == (200, "")

    asyncio.run(main())


HEADERS: list[dict[str, Any]] = [
    {"kid": "unknown"},
    {"kid": "../../etc/passwd"},
    {"kid": "/dev/zero"},
    {"kid": "' OR 1=1"},
    {"kid": ["k1"]},
    {"jku": "http://127.0.0.1:9/keys"},
    {"x5u": "http://127.0.0.1:9/cert"},
    {"jwk": {"kty": "oct", "k": "eHh4"}},
    {"crit": ["exp"]},
]


def test_a_token_chooses_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor makes the engine look anywhere: no file is opened, no name looked up (A9)."""
    touched: list[object] = []

    async def main() -> None:
        async with door(hmac()) as here:
            assert await _code(here, token()) == (200, "")  # loads what is loaded late
            for header in HEADERS:
                reader, writer = await asyncio.open_connection(sock=_connected(here.port))
                bearer = _signed({"alg": "HS256", **header}, SECRET.encode())
                lines = [
                    "GET /v1/tools HTTP/1.1",
                    "host: localhost",
                    "connection: close",
                    f"authorization: Bearer {bearer}",
                ]
                with monkeypatch.context() as patch:
                    patch.setattr("builtins.open", lambda *given, **_: touched.append(given))
                    patch.setattr(socket, "getaddrinfo", lambda *given, **_: touched.append(given))
                    patch.setattr("urllib.request.urlopen", lambda *given, **_: touched.append(given))
                    writer.write("\r\n".join([*lines, "", ""]).encode())
                    answer = await reader.read()
                writer.close()
                assert b" 401 " in answer, header
                assert b"TOKEN_INVALID" in answer
                assert not touched

    asyncio.run(main())


def _connected(port: int) -> socket.socket:
    found = socket.socket()
    found.connect(("127.0.0.1", port))
    found.setblocking(False)
    return found


def test_keys_rotate() -> None:
    """A new key counts at once, an old one until it is removed; nobody has to restart (A10)."""
    (old, old_public), (new, new_public) = _key(), _key()
    before = jwt.encode(claims(), old, "RS256", headers={"kid": "k1"})
    after = jwt.encode(claims("eve"), new, "RS256", headers={"kid": "k2"})

    async def main() -> None:
        check = JwtAuthenticator({"k1": old_public}, JwtPolicy("laneway", "me", algorithms=("RS256",)))
        async with door(check) as here:
            assert await _code(here, before) == (200, "")
            assert await _code(here, after) == (401, "TOKEN_INVALID")
            check.replace_keys({"k1": old_public, "k2": new_public})
            assert [await _code(here, bearer) for bearer in (before, after)] == [(200, "")] * 2
            check.replace_keys({"k2": new_public})
            assert await _code(here, before) == (401, "TOKEN_INVALID")
            assert await _code(here, after) == (200, "")

    asyncio.run(main())


def test_a_revoked_account_does_not_resume() -> None:
    """403, by stream, answer, ticket and link, with a token that was good a moment ago (A14)."""
    revoked: set[tuple[str, str]] = set()

    async def main() -> None:
        async with door(hmac(revoked=lambda tenant, subject: (tenant, subject) in revoked)) as here:
            async with here.events(token(), {"session": "s", "client": "c"}) as events:
                welcome = (await events.next())["header"]["welcome"]
            cursor = f"{welcome['epoch']}.0.0"
            revoked.add(("a", "ada"))
            for document in ({"session": "s", "client": "c", "cursor": cursor}, {"session": "s", "message": "hi"}):
                for accept in ("text/event-stream", "application/json"):
                    refused = await here.post("/v1/stream", token(), document, accept=accept)
                    assert (refused.status, refused.json["reason"]) == (403, "REVOKED")
            for path in ("/v1/handshake", f"/v1/stream/{welcome['link']}/grant", "/agui"):
                assert (await here.post(path, token(), {})).status == 403

    asyncio.run(main())


def test_a_huge_token_is_not_parsed() -> None:
    """Above 8 KiB it is refused unread, above the limit of headers by the server itself (A11)."""

    async def main() -> None:
        async with door(hmac()) as here:
            for size, status, code in (
                (9_000, 413, "TOKEN_INVALID"),
                (15_000, 413, "TOKEN_INVALID"),
                (20_000, 431, "MALFORMED"),
                (3_000_000, 431, "MALFORMED"),
            ):
                answer = await here.ask("GET", "/v1/tools", {"authorization": "Bearer " + "x" * size})
                assert (answer.status, answer.json["code"]) == (status, code)
                assert await _code(here, token()) == (200, "")

    asyncio.run(main())


def test_another_scheme_is_told_what_to_send() -> None:
    """401 with a challenge and a sentence that names the header."""

    async def main() -> None:
        async with door(hmac()) as here:
            for scheme in ("Basic YTpi", "Bearer", "Bearer ", "bearer  ", "x", "Negotiate abc"):
                answer = await here.ask("GET", "/v1/tools", {"authorization": scheme})
                assert (answer.status, answer.json["code"]) == (401, "UNAUTHENTICATED")
                assert answer.headers["www-authenticate"] == "Bearer"
                assert "authorization: Bearer" in answer.json["message"]

    asyncio.run(main())
