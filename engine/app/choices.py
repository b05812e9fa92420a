"""Adapters by the names that configuration and command line use: which store, which model.

Law of this file: a name means the same wherever it is written, an unknown one is a ConfigError that
lists the known ones, and only what was chosen is imported.
"""

from __future__ import annotations

import inspect
import os
import socket
from typing import TYPE_CHECKING, Final, cast

from laneway.engine.imports import load
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.errors import ConfigError

if TYPE_CHECKING:
    from laneway.actors.ports import Model, Store
    from laneway.engine.app.neighbours import Neighbours
    from laneway.engine.config import Config
    from laneway.engine.models.weights import Progress

__all__ = [
    "MODEL_NAMES",
    "as_model",
    "choose_model",
    "choose_neighbours",
    "choose_runtime",
    "choose_store",
    "first_number",
]

MODEL_NAMES: Final = "synthetic, scripted, local-llm, openai:URL, or MODULE:NAME of your own"
_OWN: Final = ("synthetic", "scripted", "local-llm")


def choose_runtime(config: Config, kind: str | None) -> Config:
    """Return the settings with another runtime; None = as they are. Raises ConfigError."""
    if kind is None or kind == config.runtime.kind:
        return config
    if kind not in ("local", "ray"):
        raise ConfigError(f"there is no runtime {kind[:40]!r}; use local or ray")
    return config.model_copy(update={"runtime": config.runtime.model_copy(update={"kind": kind})})


def choose_neighbours(config: Config, store: Store) -> Neighbours | None:
    """Return what a front shares with others of its cluster; None where there can be none."""
    if config.runtime.kind == "local":
        return None
    from laneway.engine.app.neighbours import Neighbours

    return Neighbours(f"front/{socket.gethostname()[:32]}-{os.urandom(4).hex()}", store)


def first_number(neighbours: Neighbours | None) -> int:
    """Return the first number of this engine's own events: a random one if sessions come from other fronts.

    Of 40 bits: the numbers of two fronts that make ten million events each overlap once in fifty thousand times.
    """
    return 1 if neighbours is None else 1 + int.from_bytes(os.urandom(5), "big")


def choose_store(config: Config, given: Store | str | os.PathLike[str] | None = None) -> Store:
    """Return the store: a given one wins over the configuration.

    Args:
        given: a Store, "memory", `redis://HOST` or `rediss://HOST`, or the path of a sqlite file (also
            `sqlite:PATH`).

    Raises:
        ConfigError: a kind of store that this runtime has not.
    """
    if given is not None and not isinstance(given, str | os.PathLike):
        return given
    settings = config.store
    where = os.fspath(given) if given is not None else settings.url
    if where == "memory":
        return MemoryStore(settings.memory_bytes, max_dead=settings.max_dead, max_dead_bytes=settings.max_dead_bytes)
    scheme, separator, _ = where.partition(":")
    if separator and scheme in ("redis", "rediss"):
        from laneway.engine.stores.redis import RedisStore

        return RedisStore(
            where,
            prefix=settings.prefix,
            assume_durable=settings.assume_durable,
            answer_s=settings.answer_s,
            max_pending_bytes=settings.pending_bytes,
            max_dead=settings.max_dead,
            max_dead_bytes=settings.max_dead_bytes,
        )
    if separator and scheme in ("postgres", "postgresql"):
        raise ConfigError(f"there is no {scheme} store yet; use memory, redis://HOST, or the path of a sqlite file")
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
        name: synthetic, scripted, local-llm, openai:URL (with an optional `#MODEL` at its end), or
            MODULE:NAME of a model, of an AG-UI agent (see `as_model`), or of a class or function that
            makes either without arguments.
        progress: told about download and load of the local model.

    Raises:
        ConfigError: there is no such model.
    """
    kind, colon, rest = name.partition(":")
    if kind == "openai" and rest:
        from laneway.engine.models.openai import OpenAIModel

        url, _, model = rest.partition("#")
        return OpenAIModel(url, model, api_key=_api_key())
    if colon and kind not in (*_OWN, "openai"):
        return _model_at(name)
    if colon or kind not in _OWN:
        raise ConfigError(f"there is no model {name[:80]!r}; known: {MODEL_NAMES}")
    if kind == "local-llm":
        from laneway.engine.models.local_llm import LocalLlm

        return LocalLlm(progress=progress)
    if kind == "scripted":
        from laneway.engine.models.scripted import ScriptedModel

        return ScriptedModel()
    from laneway.engine.models.synthetic import SyntheticModel

    return SyntheticModel()


def as_model(thing: object) -> Model:
    """Return a Model as it is, and any callable of AG-UI events as one. Raises ConfigError for what is neither."""
    if hasattr(thing, "stream") and not isinstance(thing, type):
        return cast("Model", thing)
    if callable(thing) and not isinstance(thing, type):
        from laneway.engine.models.agui import AgUiModel

        return AgUiModel(thing)
    raise ConfigError(f"{thing!r} is no model: it needs `stream(run, context)` or must be callable")


def _model_at(path: str) -> Model:
    thing = load(path)
    if isinstance(thing, type) or (not hasattr(thing, "stream") and _takes_nothing(thing)):
        try:
            thing = thing()
        except Exception as error:  # whatever a foreign factory does
            raise ConfigError(f"{path!r} made no model: it raised {type(error).__name__}: {error}") from error
    try:
        return as_model(thing)
    except ConfigError as error:
        raise ConfigError(f"{path!r}: {error.message}") from error


def _takes_nothing(thing: object) -> bool:
    """True for what makes a model; an agent takes the run's input."""
    if not callable(thing) or inspect.isasyncgenfunction(thing):
        return False
    try:
        inspect.signature(thing).bind()
    except (TypeError, ValueError):  # it wants arguments, or cannot tell
        return False
    return True


def _api_key() -> str:
    """Return the endpoint's key; a secret never stands on a command line."""
    return os.environ.get("OPENAI_API_KEY", "")
