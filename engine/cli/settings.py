"""The configuration of a server, as `serve` and `doctor` both see it.

Law of this file: a server is durable unless told otherwise; everything else is `Config.load`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from laneway.engine.config import Config

__all__ = ["server_config"]

_STORE: Final = "laneway.db"


def server_config(path: Path | None, overrides: Mapping[str, Mapping[str, object]] | None = None) -> Config:
    """Read file, environment and overrides; a sqlite file in this directory if nobody chose a store.

    Raises ConfigError.
    """
    from laneway.engine.config import Config

    config = Config.load(path, overrides=overrides)
    if "url" in config.store.model_fields_set:
        return config
    return Config.load(path, overrides={**(overrides or {}), "store": {"url": _STORE}})
