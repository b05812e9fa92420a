"""What the server of the trace is given: one plain function, which runs in a worker process."""

from laneway import Engine


def weather(city: str) -> str:
    """Today's weather in a city."""
    return f"sunny in {city}"


def setup(engine: Engine) -> None:
    """Give the server its tool; `laneway serve --setup` calls it."""
    engine.tools.add(weather)
