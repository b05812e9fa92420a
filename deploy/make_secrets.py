"""Make the secrets that deploy/compose.yaml mounts, for trying it on one machine.

    python deploy/make_secrets.py deploy/secrets

It makes a token for Ray, passwords for Redis and Grafana, a key pair that stands for your identity
provider, and two tokens of it: one for a client, one for Prometheus. Existing files are kept, tokens
apart: they end after a day and are made anew. In production your provider issues the tokens; give the
engine its public key, and a fresh scrape token in time (Prometheus reads the file at each scrape).

Validated: the engine accepts the tokens, Redis the rules (tests/deploy/test_compose.py).
"""

from __future__ import annotations

import secrets
import sys
import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ISSUER = "laneway-local"
LIFETIME_S = 86_000


def main(folder: Path) -> None:
    """Write what is missing; the folder is closed to others, the files are readable inside containers."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _kept(folder / "ray.token", secrets.token_hex(32))
    _kept(folder / "grafana.password", secrets.token_urlsafe(24))
    password = _kept(folder / "redis.password", secrets.token_urlsafe(32))
    _written(folder / "redis.acl", _rules(password))
    _written(folder / "laneway.toml", f'[store]\nurl = "redis://laneway:{password}@redis:6379/0"\n')
    private = _kept(folder / "issuer-private.pem", _private_key())
    key = serialization.load_pem_private_key(private.encode(), None)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    _written(folder / "issuer-public.pem", public.decode())
    _written(folder / "scrape.token", _token(private, "prometheus", "admin"))
    _written(folder / "client.token", _token(private, "ada", ""))


def _rules(password: str) -> str:
    """Return Redis's users: nobody may do more than ask whether it lives, laneway all but administer."""
    return (
        "user default on nopass -@all +ping\n"
        f"user laneway on >{password} ~* &* +@all -@admin -@dangerous +info +config|get +role\n"
    )


def _private_key() -> str:
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


def _token(private: str, subject: str, scope: str) -> str:
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": "laneway", "sub": subject, "tenant": "local", "scope": scope}
    return jwt.encode(
        {**claims, "iat": now, "exp": now + LIFETIME_S}, private, algorithm="EdDSA", headers={"kid": "local"}
    )


def _kept(path: Path, text: str) -> str:
    return path.read_text() if path.exists() else _written(path, text)


def _written(path: Path, text: str) -> str:
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o444)
    return text


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("secrets")))
