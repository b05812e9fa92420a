"""Naming what an embedder wrote by its import path, so that another process can make it too.

Law of this file: a path is only given out if importing it gives back the very same object here, and
loading one either returns the object or raises a ConfigError that names the path, the cause and the
fix. Nothing is ever pickled.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn

from laneway.routing.errors import ConfigError

__all__ = ["load", "load_callable", "path_of", "unnamed_because"]

_SHAPE: Final = "give MODULE:NAME, such as my_app.handlers:answer"
_PROGRAMS: Final = ("__main__", "__mp_main__")
"""Names of what a process was started with: another program in another process."""


def path_of(thing: object) -> str | None:
    """Return ``module:qualname`` of a function, class or object that a module holds under that name.

    None for what importing cannot give back: closures, lambdas, bound methods, partials, objects that
    no module holds, and all of `__main__`, which is another program in another process. Decorators run
    before the module has the name, so ask later. O(1) for functions and classes; for other objects
    O(names in all loaded modules), some milliseconds.
    """
    qualname, module = getattr(thing, "__qualname__", None), getattr(thing, "__module__", None)
    if isinstance(qualname, str) and isinstance(module, str):
        return f"{module}:{qualname}" if module not in _PROGRAMS and _holds(module, qualname, thing) else None
    return _holder_of(thing)


def unnamed_because(thing: object) -> str:
    """Say why `path_of` gives None for a thing, as what it is: "is a lambda". O(1)."""
    qualname, module = getattr(thing, "__qualname__", None), getattr(thing, "__module__", None)
    if not isinstance(qualname, str):
        return "is an object that no module holds by a name"
    if "<lambda>" in qualname:
        return "is a lambda"
    if "<locals>" in qualname:
        return "is defined inside a function"
    if module in _PROGRAMS:
        return "is defined in the program that was started, which is another one on a host"
    return f"is not what module {module} holds as {qualname}"


def load(path: str) -> Any:
    """Import ``module:qualname`` and return what is there; the module runs if it was not imported yet.

    Raises:
        ConfigError: another form, no such module, an error while it was imported, or no such name in it.
    """
    module, colon, qualname = path.partition(":")
    if not colon or not _dotted(module) or not _dotted(qualname):
        raise ConfigError(f"{path[:200]!r} is no import path; {_SHAPE}")
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever a foreign module does when it is imported
        _refuse(path, module, error)
    for name in qualname.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            raise ConfigError(
                f"{path!r} cannot be loaded: module {module} has no {qualname}; define it at module level, "
                "not inside a function or below `if __name__ == '__main__'`"
            ) from error
    return found


def load_callable(path: str) -> Callable[..., Any]:
    """As `load`. Raises ConfigError also if what is there cannot be called."""
    found = load(path)
    if not callable(found):
        raise ConfigError(f"{path!r} is of type {type(found).__name__}, which cannot be called; name a function")
    return found  # type: ignore[no-any-return]  # callable() narrows Any to nothing


def _refuse(path: str, module: str, error: BaseException) -> NoReturn:
    parts = module.split(".")
    above = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
    if isinstance(error, ModuleNotFoundError) and error.name in above:
        cause = f"there is no module {error.name} in this process"
        fix = "install it here, or put its directory on PYTHONPATH"
    else:
        cause = f"importing {module} raised {type(error).__name__}: {str(error)[:500]}"
        fix = "a module named here must import without effects, also in a process of its own"
    raise ConfigError(f"{path!r} cannot be loaded: {cause}; {fix}") from error


def _dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _holds(module: str, qualname: str, thing: object) -> bool:
    """True if the loaded module holds this very object under the name."""
    found: object = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found is thing


def _holder_of(thing: object) -> str | None:
    """Return the path of an object without a name of its own: the first loaded module that holds it."""
    for module, loaded in list(sys.modules.items()):
        if module in _PROGRAMS or not _dotted(module):
            continue
        for name, value in list(getattr(loaded, "__dict__", {}).items()):
            if value is thing and name.isidentifier():
                return f"{module}:{name}"
    return None
