"""Importable functions that test_functions.py offers as tools in real worker processes."""

from datetime import date

from laneway.engine.tooling.functions import tool


def population(city: str, factor: float = 1.0) -> dict[str, object]:
    """How many people live in a city.

    Args:
        city: its English name.
        factor: multiplier,
            for forecasts.

    Returns:
        A map.
    """
    return {"city": city, "people": 700_000 * factor}


@tool(name="day_name", timeout_s=9.0, idempotent=True, effects=False)
def weekday(day: date) -> str:
    """Name the weekday."""
    return day.strftime("%A")
