"""The configuration of a server, as `serve` and `doctor` both see it.

Law of this file: a server is durable, and leaves its hosts to the next one, unless told otherwise;
everything else is `Config.load`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from laneway.engine.config import Config

__all__ = ["server_config"]

_UNLESS_TOLD: Final[Mapping[str, Mapping[str, object]]] = {
    "store": {"url": "laneway.db"},
    "runtime": {"leave_hosts": True},
}


def server_config(path: Path | None, overrides: Mapping[str, Mapping[str, object]] | None = None) -> Config:
    """Read file, environment and overrides; by default a sqlite file in this directory, and hosts that stay.

    Raises ConfigError.
    """
    from laneway.engine.config import Config

    config, given = Config.load(path, overrides=overrides), dict(overrides or {})
    for section, fields in _UNLESS_TOLD.items():
        told = getattr(config, section).model_fields_set
        open_ones = {name: value for name, value in fields.items() if name not in told}
        given[section] = {**given.get(section, {}), **open_ones}
    return Config.load(path, overrides=given)
