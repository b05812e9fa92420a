"""Import paths: what has one, and what loading one says when it fails."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest

from laneway.engine.imports import load, load_callable, path_of, unnamed_because
from laneway.routing.errors import ConfigError


class Greeter:
    """Something with methods."""

    def greet(self) -> str:
        return "hello"

    @staticmethod
    def shout() -> str:
        return "HELLO"

    @classmethod
    def make(cls) -> Greeter:
        return cls()


def plain() -> str:
    return "plain"


@functools.wraps(plain)
def taken() -> str:
    return "this has another's name"


greeter = Greeter()
bound = functools.partial(plain)


def test_what_a_module_holds_has_a_path_that_gives_it_back() -> None:
    """Functions, classes, static methods, and objects under a module's name."""
    for thing in (plain, Greeter, Greeter.shout, greeter, bound, functools.partial, pytest.raises):
        path = path_of(thing)
        assert path is not None, thing
        assert load(path) is thing


def test_what_importing_cannot_give_back_has_none() -> None:
    """Closures, lambdas, bound methods, what wears another's name, own instances, and the program itself."""

    def closure() -> None: ...

    program = type("Program", (), {"__module__": "__main__"})
    for thing in (closure, lambda: None, greeter.greet, Greeter.make, taken, Greeter(), program):
        assert path_of(thing) is None, thing


def test_why_a_thing_has_no_path_is_told_as_what_it_is() -> None:
    """So that its author sees which of the ways to name it is in question."""

    def closure() -> None: ...

    program = type("Program", (), {"__module__": "__main__"})
    assert unnamed_because(closure) == "is defined inside a function"
    assert unnamed_because(lambda: None) == "is a lambda"
    assert unnamed_because(program) == "is defined in the program that was started, which is another one on a host"
    assert unnamed_because(Greeter()) == "is an object that no module holds by a name"
    assert unnamed_because(taken).startswith("is not what module ")


def test_a_decorator_runs_before_its_function_has_a_path() -> None:
    """Asked while the module is made there is none; asked later there is."""
    early: list[str | None] = []

    def decorate(function: object) -> object:
        early.append(path_of(function))
        return function

    module = type(sys)("made_here")
    vars(module)["decorate"] = decorate
    sys.modules["made_here"] = module
    try:
        exec("@decorate\ndef decorated(): ...", vars(module))
        assert early == [None]
        assert path_of(vars(module)["decorated"]) == "made_here:decorated"
    finally:
        del sys.modules["made_here"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("json", "MODULE:NAME"),
        ("json:", "MODULE:NAME"),
        (":dumps", "MODULE:NAME"),
        ("json:<lambda>", "MODULE:NAME"),
        ("../json:dumps", "MODULE:NAME"),
        ("no.such.place:thing", "there is no module no in this process; install it here, or put its directory"),
        ("json.absent:thing", "there is no module json.absent"),
        ("json:absent", "module json has no absent; define it at module level"),
        ("json:dumps.absent", "has no dumps.absent"),
    ],
)
def test_a_path_that_leads_nowhere_is_told_with_cause_and_fix(path: str, says: str) -> None:
    """Each failure is a ConfigError that shows the path."""
    with pytest.raises(ConfigError) as told:
        load(path)
    assert says in told.value.message
    assert repr(path) in told.value.message


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("1 / 0", "raised ZeroDivisionError: division by zero"),
        ("import not_there_at_all", "raised ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("def broken(:", "raised SyntaxError"),
        ("raise SystemExit(3)", "raised SystemExit: 3"),
    ],
)
def test_a_module_that_fails_when_imported_is_told(
    source: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it raises, also an attempt to end the process."""
    (tmp_path / "failing_module.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="must import without effects") as told:
        load("failing_module:thing")
    assert says in told.value.message


def test_what_cannot_be_called_is_refused_where_a_callable_is_asked_for() -> None:
    """With its type; a callable comes back."""
    with pytest.raises(ConfigError, match="'sys:path' is of type list, which cannot be called"):
        load_callable("sys:path")
    assert load_callable("json:dumps") is __import__("json").dumps
