"""Python callables as tools: annotate a function, and it is a tool.

Law of this file: a coroutine function runs on the event loop; a plain function runs in a worker
process, since nobody can know how long it blocks, unless it says `inline=True` (then it must return
at once). Arguments are validated before either starts. What the callable returns becomes JSON text.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol, TypeVar, cast, overload

from pydantic_core import PydanticSerializationError, to_json

from laneway.actors.ports import Context, ToolSpec
from laneway.actors.tools.desk import Effect
from laneway.actors.tools.json_text import json_encoder
from laneway.engine.tooling.signature import Signature
from laneway.routing.errors import ConfigError, LanewayError, ToolError

__all__ = ["FunctionTool", "Runner", "ToolOptions", "function_tool", "tool"]

_F = TypeVar("_F", bound=Callable[..., Any])
_log: Final = logging.getLogger(__name__)
_MARK: Final = "__laneway_tool__"
_JSON: Final = json_encoder(allow_nan=False)


class Runner(Protocol):
    """Runs importable callables in other processes (`laneway.engine.runtime.workers.WorkerPool`)."""

    @property
    def queue_wait_s(self) -> float:
        """How long the most recent call waited for a process, in seconds."""
        ...

    async def run(
        self,
        target: str,
        arguments: Mapping[str, Any],
        *,
        timeout_s: float,
        convert: bool = False,
        trace: str = "",
        measured: Callable[[float, float, int], None] | None = None,
    ) -> str:
        """Run `module:qualname` with JSON arguments and return JSON text. Raises ToolError subclasses."""
        ...


@dataclass(frozen=True, slots=True)
class ToolOptions:
    """How one callable is offered.

    Attributes:
        name: of the tool; default the function's own. description: default its docstring.
        timeout_s: longest run. idempotent: running it again changes nothing (it may be retried).
        effects: False if it only reads. scopes: a principal needs all of them.
        inline: run a plain function on the event loop: only if it returns at once.
    """

    name: str = ""
    description: str = ""
    timeout_s: float = 30.0
    idempotent: bool = False
    effects: bool = True
    scopes: frozenset[str] = frozenset()
    inline: bool = False


@overload
def tool(function: _F, /) -> _F: ...
@overload
def tool(
    *,
    name: str = "",
    description: str = "",
    timeout_s: float = 30.0,
    idempotent: bool = False,
    effects: bool = True,
    scopes: frozenset[str] = frozenset(),
    inline: bool = False,
) -> Callable[[_F], _F]: ...
def tool(function: Any = None, /, **options: Any) -> Any:
    """Say how a function is offered as a tool; `@tool` or `@tool(timeout_s=5, idempotent=True)`.

    The function stays what it was (callable, importable by its name in a worker); see ToolOptions.
    """
    marked = ToolOptions(**options)

    def mark(decorated: Any) -> Any:
        setattr(decorated, _MARK, marked)
        return decorated

    return mark if function is None else mark(function)


def function_tool(function: Callable[..., Any], runner: Runner | None = None, **overrides: Any) -> FunctionTool:
    """Make the tool of a callable; options come from `@tool`, overrides (fields of ToolOptions) win.

    Args:
        function: annotated callable, plain or async.
        runner: where plain functions run; not needed for async and inline ones.

    Raises:
        ConfigError: no name, no usable signature, or a plain function that a worker cannot import.
    """
    options = getattr(function, _MARK, None) or ToolOptions()
    try:
        options = replace(options, **overrides)
    except TypeError as error:
        raise ConfigError(f"unknown tool option: {error}; see ToolOptions") from None
    return FunctionTool(function, options, runner)


class FunctionTool:
    """One callable as a ToolInvoker.

    Args:
        function, options, runner: see `function_tool`.
    """

    def __init__(self, function: Callable[..., Any], options: ToolOptions, runner: Runner | None = None) -> None:
        name = options.name or getattr(function, "__name__", "")
        if not name or name == "<lambda>":
            raise ConfigError("a tool needs a name; pass name=... for lambdas and callable objects")
        self._function = function
        self._signature = Signature(function)
        self._awaits = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - a callable object may have an async __call__
        )
        self._target = "" if self._awaits or options.inline else _target(name, function, self._signature)
        if self._target and runner is None:
            raise ConfigError(f"tool {name!r} is a plain function and needs a worker pool; or pass inline=True")
        self._runner = runner
        self._spec = ToolSpec(
            name=name,
            description=options.description or self._signature.description,
            schema=self._signature.schema,
            timeout_s=options.timeout_s,
            idempotent=options.idempotent,
            effects=options.effects,
            scopes=frozenset(options.scopes),
            metadata={"source": "python"},
        )

    @property
    def spec(self) -> ToolSpec:
        """Its catalogue row."""
        return self._spec

    @property
    def queue_wait_s(self) -> float | None:
        """How long the most recent call waited for a worker, in seconds; None on the loop."""
        return self._runner.queue_wait_s if self._target and self._runner is not None else None

    def prepare(self, arguments: Mapping[str, Any]) -> Effect:
        """See `Prepares.prepare`; validated here, once."""
        validated = self._signature.validate(arguments)
        if not self._target:
            return partial(self._here, validated)
        return partial(self._elsewhere, validated if self._signature.plain else arguments)

    async def invoke(self, arguments: Mapping[str, Any], context: Context) -> str:
        """Run once and return JSON text. Raises ToolArguments, ToolError and the worker's errors."""
        return await self.prepare(arguments)(context)

    async def _elsewhere(self, given: Mapping[str, Any], context: Context) -> str:
        """Run in a worker process, which converts what is not validated JSON."""

        def measured(began: float, ended: float, pid: int) -> None:
            context.record("worker", began, ended, process__pid=pid)

        return await cast("Runner", self._runner).run(
            self._target,
            given,
            timeout_s=self._spec.timeout_s,
            convert=not self._signature.plain,
            trace=context.trace,
            measured=measured,
        )

    async def _here(self, validated: dict[str, Any], context: Context) -> str:
        """Run on the event loop."""
        if self._signature.context_name:
            validated[self._signature.context_name] = context
        try:
            value = self._function(**validated)
            if self._awaits or inspect.isawaitable(value):
                value = await value
            return _as_json(value)
        except LanewayError:
            raise
        except Exception as error:
            _log.warning("tool %s raised", self._spec.name, exc_info=True, extra={"trace": context.trace})
            raise ToolError(
                f"{self._spec.name!r} raised {type(error).__name__}: {str(error)[:2000]}", reason=type(error).__name__
            ) from error


def _target(name: str, function: Callable[..., Any], signature: Signature) -> str:
    """Name the function so that a worker can import it. Raises ConfigError if it cannot be."""
    if signature.context_name:
        raise ConfigError(f"tool {name!r} takes a Context, which stays on the event loop; make it async or inline=True")
    qualname = getattr(function, "__qualname__", "")
    module = getattr(function, "__module__", "")
    if not qualname or not module or "<" in qualname:
        raise ConfigError(
            f"tool {name!r} is not importable by name, so no worker can run it; "
            "define it at module level, make it async, or pass inline=True"
        )
    if module != "__main__":
        return f"{module}:{qualname}"
    script = getattr(sys.modules["__main__"], "__file__", None)
    if not script or not script.endswith(".py"):
        raise ConfigError(f"tool {name!r} was typed interactively; put it into a module, or pass inline=True")
    return f"{os.path.abspath(script)}:{qualname}"


def _as_json(value: Any) -> str:
    try:
        return _JSON(value)
    except TypeError:
        pass  # not plain JSON: models, dataclasses, dates
    try:
        return to_json(value, inf_nan_mode="null").decode()
    except PydanticSerializationError as error:
        raise ToolError(f"the result is not JSON: {error}", reason="RESULT_NOT_JSON") from error
