"""The settings of an engine that was given none: the values that a start reads, without the library that checks them.

Law of this file: it says what `Config()` says (a test compares every value), and loads nothing for it:
half of an embedded engine's start would be spent on checking defaults. Whatever else is asked for comes
from a real `Config()`, made then.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

from laneway.actors.sessions.session import SessionPolicy
from laneway.routing.dispatch import DispatchPolicy
from laneway.routing.overload import OverloadPolicy

if TYPE_CHECKING:
    from laneway.engine.config import Config

__all__ = ["DEFAULTS"]


@cache
def _checked() -> Config:
    from laneway.engine.config import Config

    return Config()


class _Section:
    """One section: some of its values, the others on demand."""

    def __init__(self, name: str, **values: object) -> None:
        self._name = name
        self.__dict__.update(values)

    def __getattr__(self, field: str) -> Any:
        return getattr(getattr(_checked(), self._name), field)


class _Defaults:
    """Stands for `Config()`."""

    limits = _Section("limits", sessions=10_000, drain_s=30.0)
    nlp = _Section("nlp", model="", concurrency=256, target_wait_s=10.0, tenant_share=0.75, unread="auto", raw=False)
    runtime = _Section("runtime", kind="local", hosts={}, max_hosts={}, placement={})
    store = _Section(
        "store", url="memory", memory_bytes=268_435_456, max_dead=10_000, max_dead_bytes=67_108_864, busy_s=2.0
    )
    telemetry = _Section("telemetry", otlp="")
    tools = _Section("tools", workers=2, concurrency=256, target_wait_s=5.0)

    def session_policy(self) -> SessionPolicy:
        """As `Config.session_policy`: the actors' own defaults."""
        return SessionPolicy()

    def dispatch_policy(self) -> DispatchPolicy:
        """As `Config.dispatch_policy`: routing's own defaults."""
        return DispatchPolicy()

    def overload_policy(self) -> OverloadPolicy | None:
        """As `Config.overload_policy`: routing's own defaults."""
        return OverloadPolicy()

    def __getattr__(self, name: str) -> Any:
        return getattr(_checked(), name)


DEFAULTS: Final = cast("Config", _Defaults())
"""What `Config()` would be."""
