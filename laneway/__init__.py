"""laneway: actor-based event dispatch for AI-agent platforms.

Law of this file: it names the public API and loads none of it. Each name is imported from where it
lives at first use (PEP 562), so that `import laneway` costs milliseconds and loads no Ray, gRPC,
OpenTelemetry, MCP or web server.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any, Final

if not os.path.isdir(os.path.join(os.path.dirname(__file__), "routing")):
    raise ImportError(
        "laneway/routing is not a directory: this checkout turned the package's symbolic links into text files; "
        "check out again with `git config core.symlinks true`, or install the wheel"
    )

if TYPE_CHECKING:
    from laneway.actors.ports import Context as Context
    from laneway.actors.ports import Model as Model
    from laneway.actors.ports import Out as Out
    from laneway.actors.ports import Principal as Principal
    from laneway.actors.ports import Store as Store
    from laneway.actors.ports import ToolResult as ToolResult
    from laneway.engine.app import Engine as Engine
    from laneway.engine.client import Client as Client
    from laneway.engine.config import Config as Config
    from laneway.routing.classify import Kind as Kind
    from laneway.routing.envelope import EnvelopeView as EnvelopeView
    from laneway.routing.errors import LanewayError as LanewayError
    from laneway.routing.lanes import Lane as Lane

__version__ = "0.1.0"

_HOME: Final = {
    "Client": "laneway.engine.client",
    "Config": "laneway.engine.config",
    "Context": "laneway.actors.ports",
    "Engine": "laneway.engine.app",
    "EnvelopeView": "laneway.routing.envelope",
    "Kind": "laneway.routing.classify",
    "Lane": "laneway.routing.lanes",
    "LanewayError": "laneway.routing.errors",
    "Model": "laneway.actors.ports",
    "Out": "laneway.actors.ports",
    "Principal": "laneway.actors.ports",
    "Store": "laneway.actors.ports",
    "ToolResult": "laneway.actors.ports",
}

__all__ = [
    "Client",
    "Config",
    "Context",
    "Engine",
    "EnvelopeView",
    "Kind",
    "Lane",
    "LanewayError",
    "Model",
    "Out",
    "Principal",
    "Store",
    "ToolResult",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'laneway' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
