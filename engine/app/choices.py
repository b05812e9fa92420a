"""Adapters by the names that configuration and command line use: which store, which model.

Law of this file: a name means the same wherever it is written, an unknown one is a ConfigError that
lists the known ones, and only what was chosen is imported.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from laneway.engine.stores.memory import MemoryStore
from laneway.routing.errors import ConfigError

if TYPE_CHECKING:
    from laneway.actors.ports import Model, Store
    from laneway.engine.config import Config
    from laneway.engine.models.weights import Progress

__all__ = ["MODEL_NAMES", "choose_model", "choose_store"]

MODEL_NAMES: Final = "synthetic, scripted, local-llm, openai:URL"


def choose_store(config: Config, given: Store | str | Path | None = None) -> Store:
    """Return the store: a given one wins over the configuration.

    Args:
        given: a Store, "memory", or the path of a sqlite file (also `sqlite:PATH`).

    Raises:
        ConfigError: a kind of store that this runtime has not.
    """
    if given is not None and not isinstance(given, str | Path):
        return given
    settings = config.store
    where = str(given) if given is not None else settings.url
    if where == "memory":
        return MemoryStore(settings.memory_bytes, max_dead=settings.max_dead, max_dead_bytes=settings.max_dead_bytes)
    scheme, separator, _ = where.partition(":")
    if separator and scheme in ("redis", "rediss", "postgres", "postgresql"):
        raise ConfigError(f"there is no {scheme} store yet; use memory, or the path of a sqlite file")
    from laneway.engine.stores.sqlite import SqliteStore

    return SqliteStore(
        where.removeprefix("sqlite:"),
        sync=settings.sync,
        busy_s=settings.busy_s,
        max_pending_bytes=settings.pending_bytes,
        max_dead=settings.max_dead,
        max_dead_bytes=settings.max_dead_bytes,
    )


def choose_model(name: str, progress: Progress | None = None) -> Model:
    """Return the model of a name.

    Args:
        name: synthetic, scripted, local-llm, or openai:URL (with an optional `#MODEL` at its end).
        progress: told about download and load of the local model.

    Raises:
        ConfigError: there is no such model.
    """
    kind, _, rest = name.partition(":")
    if kind == "openai" and rest:
        from laneway.engine.models.openai import OpenAIModel

        url, _, model = rest.partition("#")
        return OpenAIModel(url, model, api_key=_api_key())
    if rest or kind not in ("synthetic", "scripted", "local-llm"):
        raise ConfigError(f"there is no model {name[:80]!r}; known: {MODEL_NAMES}")
    if kind == "local-llm":
        from laneway.engine.models.local_llm import LocalLlm

        return LocalLlm(progress=progress)
    if kind == "scripted":
        from laneway.engine.models.scripted import ScriptedModel

        return ScriptedModel()
    from laneway.engine.models.synthetic import SyntheticModel

    return SyntheticModel()


def _api_key() -> str:
    """Return the endpoint's key; a secret never stands on a command line."""
    return os.environ.get("OPENAI_API_KEY", "")
