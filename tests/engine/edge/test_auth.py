"""Bad tokens, one by one (rows A1 to A12 and A14 of the bad-input checklist)."""

from __future__ import annotations

import asyncio
import base64
import builtins
import hashlib
import hmac
import json
import socket
import time
from collections.abc import Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from laneway.actors.ports import Principal
from laneway.engine.edge.auth import JwtAuthenticator, JwtPolicy, authenticated, no_auth
from laneway.routing.errors import (
    AccessError,
    ConfigError,
    Overloaded,
    TokenExpired,
    TokenInvalid,
    Unauthenticated,
)

SECRET = "s" * 32
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA_PUBLIC = RSA_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
HMAC = JwtPolicy(audience="engine", issuer="https://issuer", algorithms=("HS256",))
SIGNED = JwtPolicy(audience="engine", issuer="https://issuer", algorithms=("RS256",))


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    made = {
        "sub": "ada",
        "aud": "engine",
        "iss": "https://issuer",
        "iat": now,
        "exp": now + 600,
        "tenant": "acme",
        "scope": "admin tool:*",
    }
    made.update(changes)
    return {key: value for key, value in made.items() if value is not None}


def token(headers: dict[str, Any] | None = None, key: Any = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm=algorithm, headers=headers)


def raw_token(header: Mapping[str, Any], payload: bytes, secret: bytes) -> str:
    """A token no library would make."""
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in (json.dumps(header).encode(), payload)]
    signature = hmac.new(secret, b".".join(parts), hashlib.sha256).digest()
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def bearer(value: str) -> dict[str, str]:
    return {"authorization": f"Bearer {value}"}


def hmac_auth(**options: Any) -> JwtAuthenticator:
    return JwtAuthenticator({"": SECRET}, HMAC, **options)


def test_a_good_token_becomes_a_principal() -> None:
    """Subject, tenant, scopes and end come from the claims."""
    good = claims()
    principal = hmac_auth()(bearer(jwt.encode(good, SECRET)))
    assert principal == Principal("ada", "acme", frozenset({"admin", "tool:*"}), float(good["exp"]))


@pytest.mark.parametrize(
    "metadata", [{}, {"authorization": ""}, {"authorization": "Basic YTpi"}, {"authorization": "Bearer"}]
)
def test_a1_no_token(metadata: dict[str, str]) -> None:
    """No or other credentials are UNAUTHENTICATED."""
    with pytest.raises(Unauthenticated) as caught:
        hmac_auth()(metadata)
    assert caught.value.code == "UNAUTHENTICATED"


@pytest.mark.parametrize("algorithm", ["none", "NoNe", "NONE", "HS512", "", 7])
def test_a2_algorithm_is_ours(algorithm: object) -> None:
    """`none` in any spelling, or an algorithm we did not choose, is refused, signed or not."""
    payload = json.dumps(claims()).encode()
    signed = raw_token({"alg": algorithm, "typ": "JWT"}, payload, SECRET.encode())
    for attempt in (signed, signed.rsplit(".", 1)[0] + "."):
        with pytest.raises(TokenInvalid):
            hmac_auth()(bearer(attempt))


def test_a3_public_key_as_hmac_secret() -> None:
    """A token signed with our public key as HMAC secret is refused, and the mix cannot be configured."""
    forged = raw_token({"alg": "HS256"}, json.dumps(claims()).encode(), RSA_PUBLIC)
    with pytest.raises(TokenInvalid):
        JwtAuthenticator({"": RSA_PUBLIC}, SIGNED)(bearer(forged))
    mixed = JwtPolicy(audience="engine", issuer="i", algorithms=("HS256", "RS256"))
    with pytest.raises(ConfigError):
        JwtAuthenticator({"": RSA_PUBLIC}, mixed)


@pytest.mark.parametrize("claim", ["exp", "iat", "aud", "iss", "sub"])
def test_a4_each_claim_is_required(claim: str) -> None:
    """A token without one of them is TOKEN_INVALID."""
    with pytest.raises(TokenInvalid):
        hmac_auth()(bearer(token(**{claim: None})))


def test_a5_expiry_with_leeway() -> None:
    """Ten seconds over is TOKEN_EXPIRED, three seconds are forgiven."""
    now = int(time.time())
    with pytest.raises(TokenExpired):
        hmac_auth()(bearer(token(iat=now - 100, exp=now - 10)))
    assert hmac_auth()(bearer(token(iat=now - 100, exp=now - 3))).subject == "ada"


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a6_not_yet(claim: str) -> None:
    """A token from the future is TOKEN_INVALID."""
    with pytest.raises(TokenInvalid):
        hmac_auth()(bearer(token(**{claim: int(time.time()) + 60})))


@pytest.mark.parametrize(
    "changes",
    [{"aud": "engine2"}, {"aud": ["a", "b"]}, {"aud": []}, {"iss": "https://other"}, {"iss": ["https://issuer"]}],
)
def test_a7_for_us_and_from_our_issuer(changes: dict[str, Any]) -> None:
    """Another audience or issuer is TOKEN_INVALID."""
    with pytest.raises(TokenInvalid):
        hmac_auth()(bearer(raw_token({"alg": "HS256"}, json.dumps(claims(**changes)).encode(), SECRET.encode())))


@pytest.mark.parametrize("end", ["1000000000000", "1e308", "1e400", "Infinity", "NaN", '"abc"', "null", "[1]"])
def test_a8_lifetime_is_bounded(end: str) -> None:
    """A token that lives longer than an hour, or ends at no time, is TOKEN_INVALID."""
    payload = json.dumps(claims()).replace(str(claims()["exp"]), end)
    with pytest.raises(TokenInvalid):
        hmac_auth()(bearer(raw_token({"alg": "HS256"}, payload.encode(), SECRET.encode())))


def test_a8_a_token_may_live_an_hour_and_no_second_more() -> None:
    """The limit is exp - iat, whatever the clock says."""
    now = int(time.time())
    assert hmac_auth()(bearer(token(iat=now, exp=now + 3600)))
    with pytest.raises(TokenInvalid) as caught:
        hmac_auth()(bearer(token(iat=now, exp=now + 3601)))
    assert caught.value.reason == "LIFETIME"


@pytest.mark.parametrize(
    "header",
    [
        {"kid": "unknown"},
        {"kid": "../../etc/passwd"},
        {"kid": 7},
        {"jku": "http://127.0.0.1:1/keys"},
        {"x5u": "http://127.0.0.1:1/cert"},
        {"jwk": {"kty": "oct", "k": "c3NzcyI"}},
        {"x5c": ["AA=="]},
        {"crit": ["exp"]},
    ],
)
def test_a9_a_token_brings_no_keys(header: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Foreign key hints are TOKEN_INVALID, and neither a file nor a socket is opened on the way."""
    authenticator = hmac_auth()
    attempt = raw_token({"alg": "HS256", **header}, json.dumps(claims()).encode(), SECRET.encode())

    def touched(*_args: object, **_options: object) -> Any:
        raise AssertionError("the token made us reach out")

    monkeypatch.setattr(builtins, "open", touched)
    monkeypatch.setattr(socket, "socket", touched)
    with pytest.raises(TokenInvalid):
        authenticator(bearer(attempt))


def test_a10_keys_rotate() -> None:
    """A new key counts at once, an old one until it is removed, and remembered tokens of it end then."""
    old, new = "o" * 32, "n" * 32
    authenticator = JwtAuthenticator({"old": old}, HMAC)
    by_old, by_new = token({"kid": "old"}, old), token({"kid": "new"}, new)
    assert authenticator(bearer(by_old))
    authenticator.replace_keys({"old": old, "new": new})
    assert authenticator(bearer(by_old)) == authenticator(bearer(by_new))
    authenticator.replace_keys({"new": new})
    assert authenticator(bearer(by_new))
    with pytest.raises(TokenInvalid):
        authenticator(bearer(by_old))


def test_a11_altered_tokens() -> None:
    """A stripped signature and a swapped payload are TOKEN_INVALID."""
    head, body, signature = token().split(".")
    other = token(sub="eve").split(".")[1]
    for attempt in (f"{head}.{body}.", f"{head}.{body}", f"{head}.{other}.{signature}", "a.b.c", "...", "é"):
        with pytest.raises(TokenInvalid):
            hmac_auth()(bearer(attempt))


@pytest.mark.parametrize("size", [9 * 1024, 3 * 1024 * 1024])
def test_a11_large_tokens_are_not_parsed(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 8 KiB a token is refused before anything looks into it."""
    monkeypatch.setattr(jwt, "get_unverified_header", None)
    monkeypatch.setattr(jwt, "decode", None)
    with pytest.raises(TokenInvalid) as caught:
        hmac_auth()(bearer("x" * size))
    assert caught.value.reason == "TOO_LARGE"


def test_a11_nested_header_and_payload() -> None:
    """Deep nesting inside the size limit is TOKEN_INVALID, not a RecursionError."""
    deep = b"[" * 3000
    secret = SECRET.encode()
    by_payload = raw_token({"alg": "HS256"}, deep, secret)
    by_header = base64.urlsafe_b64encode(deep).decode() + "." + by_payload.split(".", 1)[1]
    for attempt in (by_payload, by_header):
        with pytest.raises(TokenInvalid):
            hmac_auth()(bearer(attempt))


@pytest.mark.parametrize("secret", ["", "x", "x" * 31])
def test_a12_weak_secrets_stop_the_start(secret: str) -> None:
    """An HMAC secret under 32 bytes is a ConfigError."""
    with pytest.raises(ConfigError):
        JwtAuthenticator({"": secret}, HMAC)


def test_a12_other_unusable_set_ups() -> None:
    """No keys, no audience, no algorithm and a key that is none are ConfigErrors."""
    with pytest.raises(ConfigError):
        JwtAuthenticator({}, HMAC)
    with pytest.raises(ConfigError):
        JwtAuthenticator({"": "no pem"}, SIGNED)
    for policy in (
        JwtPolicy(audience="", issuer="i"),
        JwtPolicy(audience="a", issuer="i", algorithms=()),
        JwtPolicy(audience="a", issuer="i", leeway_s=3600),
    ):
        with pytest.raises(ConfigError):
            JwtAuthenticator({"": RSA_PUBLIC}, policy)


def test_a14_revoked_accounts() -> None:
    """A revoked subject is PERMISSION_DENIED, also with a token that is remembered."""
    gone: set[tuple[str, str]] = set()
    authenticator = hmac_auth(revoked=lambda tenant, subject: (tenant, subject) in gone)
    good = bearer(token())
    assert authenticator(good)
    gone.add(("acme", "ada"))
    with pytest.raises(AccessError) as caught:
        authenticator(good)
    assert caught.value.code == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": ""},
        {"sub": "a\nb"},
        {"sub": 7},
        {"sub": "x" * 129},
        {"tenant": "a/b"},
        {"tenant": 1},
        {"scope": [1]},
        {"scope": 3},
    ],
)
def test_claims_we_use_are_checked(changes: dict[str, Any]) -> None:
    """A subject, tenant or scope that could not be one is TOKEN_INVALID."""
    payload = json.dumps(claims(**changes)).encode()
    with pytest.raises(TokenInvalid):
        hmac_auth()(bearer(raw_token({"alg": "HS256"}, payload, SECRET.encode())))


def test_signatures_verify_with_the_public_key() -> None:
    """The asymmetric family works with a PEM public key."""
    good = token(key=RSA_KEY, algorithm="RS256")
    assert JwtAuthenticator({"": RSA_PUBLIC.decode()}, SIGNED)(bearer(good)).tenant == "acme"


def test_verified_tokens_are_remembered_within_bounds_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A remembered token is not verified again, ends when it is over, and the oldest leave first."""
    now = [time.time()]
    policy = JwtPolicy(audience="engine", issuer="https://issuer", algorithms=("HS256",), cache_tokens=2)
    authenticator = JwtAuthenticator({"": SECRET}, policy, wall=lambda: now[0])
    tokens = [bearer(token(sub=f"user{index}")) for index in range(3)]
    for each in tokens:
        authenticator(each)
    assert len(authenticator._verified) == 2
    monkeypatch.setattr(jwt, "decode", None)
    assert authenticator(tokens[2]).subject == "user2"
    now[0] += 606
    with pytest.raises(TokenExpired):
        authenticator(tokens[2])


def test_hooks_may_be_coroutines_and_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    """A hook's own exception is UNAUTHENTICATED, its text in the log and nowhere else; a coroutine is awaited."""

    async def slow(metadata: Mapping[str, str]) -> Principal:
        return Principal(metadata["x-user"])

    def broken(metadata: Mapping[str, str]) -> Principal:
        raise RuntimeError("password=hunter2")

    async def main() -> None:
        assert await authenticated(slow, {"x-user": "bob"}) == Principal("bob")
        assert "admin" in (await authenticated(no_auth, {})).scopes
        with pytest.raises(Unauthenticated) as caught:
            await authenticated(broken, {})
        assert "hunter2" not in str(caught.value)

    asyncio.run(main())
    assert "hunter2" in caplog.text


def test_a_hook_that_does_not_answer_holds_nobody() -> None:
    """503 after its time, and so if it says itself that it ran out of time: the credentials may be good."""

    async def stuck(metadata: Mapping[str, str]) -> Principal:
        await asyncio.Event().wait()
        raise AssertionError

    async def late(metadata: Mapping[str, str]) -> Principal:
        raise TimeoutError

    for hook, within_s in ((stuck, 0.0), (late, 10.0)):
        with pytest.raises(Overloaded) as refused:
            asyncio.run(authenticated(hook, {}, within_s))
        assert refused.value.retry_after_ms == 1000
