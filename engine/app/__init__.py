"""The engine put together: `Engine` and what an embedder touches through it."""

from laneway.engine.app.engine import Engine as Engine

__all__ = ["Engine"]
