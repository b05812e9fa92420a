"""Who is speaking: a hook from request metadata to a principal, and JWT as the default one.

Law of this file: nothing of a request is looked at before its credentials hold, and a token
decides nothing about how it is checked: algorithms, keys, audience and issuer are ours; its
header may only name one of our keys. No file and no network is touched here; keys that rotate
are handed in by their owner (`JwtAuthenticator.replace_keys`).

PyJWT (2.15, measured) accepts what this must not: `exp` centuries ahead, megabyte tokens and
one-byte HMAC secrets. Those checks are our own; rules after RFC 8725 (JWT best practices).
Verifying costs 41-152 us and a look-up 0.03, so verified tokens are remembered until they end.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
import math
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from laneway.actors.ports import Principal
from laneway.routing.errors import (
    AccessError,
    ConfigError,
    LanewayError,
    Overloaded,
    TokenExpired,
    TokenInvalid,
    Unauthenticated,
)

__all__ = ["Authenticate", "JwtAuthenticator", "JwtPolicy", "authenticated", "no_auth"]

Authenticate: TypeAlias = Callable[[Mapping[str, str]], Principal | Awaitable[Principal]]
"""Given lower-case metadata, returns the principal or raises an AccessError. May be a coroutine function."""

_log: Final = logging.getLogger(__name__)
_HMAC: Final = frozenset({"HS256", "HS384", "HS512"})
_ASYMMETRIC: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
_HOOK_S: Final = 10.0
_HOOK_RETRY_MS: Final = 1000
_MIN_SECRET_BYTES: Final = 32
"""RFC 7518 section 3.2: an HMAC key at least as long as the hash."""
_KEY_CARRYING_HEADERS: Final = frozenset({"jku", "jwk", "x5u", "x5c", "crit"})
"""Header fields that would let a token bring or point to its own key, or demand unknown rules."""
_TENANT: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_SUBJECT: Final = re.compile(r"[\x21-\x7e]{1,128}\Z")


_LOCAL: Final = Principal("local", scopes=frozenset({"admin", "tool:*"}))


def no_auth(metadata: Mapping[str, str]) -> Principal:
    """Everybody is the local operator. Only for loopback: the edge refuses it elsewhere."""
    return _LOCAL


async def authenticated(hook: Authenticate, metadata: Mapping[str, str], within_s: float = _HOOK_S) -> Principal:
    """Run a hook.

    Raises AccessError subclasses, and Overloaded if it has no answer within `within_s`; any other
    exception of the hook becomes Unauthenticated.
    """
    try:
        found = hook(metadata)
        if not inspect.isawaitable(found):
            return found
        async with asyncio.timeout(within_s):
            return await found
    except LanewayError:
        raise
    except TimeoutError as error:
        raise Overloaded(
            "who checks credentials did not answer in time; try again", retry_after_ms=_HOOK_RETRY_MS
        ) from error
    except Exception as error:
        _log.exception("the authenticate hook failed")
        raise Unauthenticated("the credentials could not be checked; see the server's log") from error


@dataclass(frozen=True, slots=True)
class JwtPolicy:
    """What a token must be.

    Attributes:
        audience: our name; must be among the token's `aud`.
        issuer: whose tokens count.
        algorithms: of one family only: HMAC, or signatures.
        leeway_s: clock difference forgiven, 0 to 60.
        max_lifetime_s: longest `exp - iat` accepted.
        max_token_bytes: longer ones are refused unread.
        tenant_claim: where the tenant is; absent means "default".
        scope_claim: space-separated string or list.
        cache_tokens: how many verified tokens are remembered.
    """

    audience: str
    issuer: str
    algorithms: tuple[str, ...] = ("EdDSA", "ES256", "RS256")
    leeway_s: float = 5.0
    max_lifetime_s: float = 3600.0
    max_token_bytes: int = 8192
    tenant_claim: str = "tenant"
    scope_claim: str = "scope"
    cache_tokens: int = 4096
    required: tuple[str, ...] = field(default=("exp", "iat", "aud", "iss", "sub"))


class JwtAuthenticator:
    """The default hook: `authorization: Bearer <JWT>`.

    Args:
        keys: kid -> verification key (HMAC secret, or PEM public key); "" is for tokens without a kid.
        policy: what a token must be.
        revoked: told (tenant, subject) on each call; True refuses with PERMISSION_DENIED.
        wall: UNIX seconds.

    Raises ConfigError at once for weak or missing keys and mixed algorithm families.
    """

    def __init__(
        self,
        keys: Mapping[str, str | bytes],
        policy: JwtPolicy,
        *,
        revoked: Callable[[str, str], bool] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        _check_policy(policy)
        self._policy = policy
        self._revoked = revoked
        self._wall = wall
        self._keys: dict[str, Any] = {}
        self._verified: OrderedDict[bytes, Principal] = OrderedDict()
        self.replace_keys(keys)

    def replace_keys(self, keys: Mapping[str, str | bytes]) -> None:
        """Take a new key set: new keys count at once, tokens of removed ones are refused at once."""
        self._keys = {kid: _prepared(kid, key, self._policy.algorithms) for kid, key in keys.items()}
        if not self._keys:
            raise ConfigError("no JWT key is configured; give at least one, or use no_auth on loopback")
        self._verified.clear()

    def __call__(self, metadata: Mapping[str, str]) -> Principal:
        """Return the principal.

        Raises Unauthenticated (no token), TokenInvalid, TokenExpired, or AccessError (revoked).
        """
        token = self._token(metadata)
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        principal = self._verified.get(digest)
        if principal is None:
            principal = self._principal(self._claims(token))
            self._remember(digest, principal)
        else:
            self._verified.move_to_end(digest)
        if principal.expires_at is not None and principal.expires_at + self._policy.leeway_s <= self._wall():
            raise _expired()
        if self._revoked is not None and self._revoked(principal.tenant, principal.subject):
            raise AccessError("this account may not connect any more", reason="REVOKED")
        return principal

    def _token(self, metadata: Mapping[str, str]) -> str:
        header = metadata.get("authorization", "")
        if not header:
            raise Unauthenticated("no credentials; send `authorization: Bearer <token>`")
        if len(header) > self._policy.max_token_bytes + len("Bearer "):
            raise TokenInvalid(f"the token is larger than {self._policy.max_token_bytes} bytes", reason="TOO_LARGE")
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("unknown authorization scheme; send `authorization: Bearer <token>`")
        return token.strip()

    def _claims(self, token: str) -> dict[str, Any]:
        import jwt

        policy = self._policy
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key(jwt.get_unverified_header(token)),
                algorithms=list(policy.algorithms),
                audience=policy.audience,
                issuer=policy.issuer,
                leeway=policy.leeway_s,
                options={"require": list(policy.required), "verify_signature": True},
            )
        except jwt.ExpiredSignatureError as error:
            raise _expired() from error
        except LanewayError:
            raise
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError, KeyError) as error:
            raise TokenInvalid("the token does not verify here; ask the issuer for a new one") from error
        self._check_times(claims)
        return claims

    def _key(self, header: Mapping[str, Any]) -> Any:
        """Choose among our own keys; whatever else the header says about keys is a refusal."""
        brought = _KEY_CARRYING_HEADERS.intersection(header)
        if brought:
            raise TokenInvalid(f"the token's header may not carry {', '.join(sorted(brought))}", reason="HEADER")
        kid = header.get("kid", "")
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None:
            raise TokenInvalid("the token is signed with a key that is not known here", reason="UNKNOWN_KEY")
        return key

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        begin, end = claims["iat"], claims["exp"]
        for moment in (begin, end):
            if isinstance(moment, bool) or not isinstance(moment, int | float) or not math.isfinite(moment):
                raise TokenInvalid("the token's times are not numbers", reason="LIFETIME")
        if not 0 <= end - begin <= self._policy.max_lifetime_s:
            raise TokenInvalid(
                f"the token lives longer than {self._policy.max_lifetime_s:.0f} s; issue shorter ones",
                reason="LIFETIME",
            )

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        subject, tenant = claims["sub"], claims.get(self._policy.tenant_claim, "default")
        if not isinstance(subject, str) or not _SUBJECT.match(subject):
            raise TokenInvalid("the token's subject is not 1 to 128 printable ASCII characters", reason="BAD_ID")
        if not isinstance(tenant, str) or not _TENANT.match(tenant):
            raise TokenInvalid("the token's tenant is not [A-Za-z0-9_.-]{1,64}", reason="BAD_ID")
        scopes = claims.get(self._policy.scope_claim, ())
        if isinstance(scopes, str):
            scopes = scopes.split()
        if not isinstance(scopes, list | tuple) or not all(isinstance(scope, str) for scope in scopes):
            raise TokenInvalid("the token's scopes are neither a string nor a list of strings")
        return Principal(subject, tenant, frozenset(scopes), float(claims["exp"]))

    def _remember(self, digest: bytes, principal: Principal) -> None:
        self._verified[digest] = principal
        while len(self._verified) > self._policy.cache_tokens:
            self._verified.popitem(last=False)


def _expired() -> TokenExpired:
    return TokenExpired("the token is over; get a fresh one and connect again, the session goes on")


def _check_policy(policy: JwtPolicy) -> None:
    chosen = set(policy.algorithms)
    if not chosen or not (chosen <= _HMAC or chosen <= _ASYMMETRIC):
        raise ConfigError(
            f"JWT algorithms {sorted(chosen)} must all be HMAC or all be signatures: with both, a public key "
            "could be used as an HMAC secret; choose one family"
        )
    if not policy.audience or not policy.issuer:
        raise ConfigError("JWT audience and issuer must be set; without them any service's tokens would count")
    if not 0 <= policy.leeway_s <= 60:
        raise ConfigError(f"JWT leeway_s is {policy.leeway_s}; choose 0 to 60")


def _prepared(kid: str, key: str | bytes, algorithms: tuple[str, ...]) -> Any:
    """Parse a key once, so that a bad one stops the start and not the first request."""
    if set(algorithms) <= _HMAC:
        secret = key.encode() if isinstance(key, str) else key
        if len(secret) < _MIN_SECRET_BYTES:
            raise ConfigError(
                f"JWT secret {kid!r} has {len(secret)} bytes; use at least {_MIN_SECRET_BYTES} random ones"
            )
        return secret
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return load_pem_public_key(key.encode() if isinstance(key, str) else key)
    except ValueError as error:
        raise ConfigError(f"JWT key {kid!r} is not a PEM public key: {error}") from error
