"""The Lua scripts of the Redis store: what the server does in one step.

Law of this file: a script is sent once per connection and then called by its digest. What is decided
(claims, holes, versions) is decided inside the server, where nothing runs in between; its keys are
described at the top of `redis_write.lua`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Script", "script"]


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its text, and the SHA-1 digest that the server knows it by."""

    text: str
    digest: str


@cache
def script(name: str) -> Script:
    """Return the script `redis_<name>.lua`: enter, write or read."""
    text = (Path(__file__).parent / f"redis_{name}.lua").read_text(encoding="utf-8")
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
