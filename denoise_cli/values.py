"""Values of options that came as text."""

from __future__ import annotations

from typing import Any

from .errors import UsageError

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parse_value(option: str, value: Any, kind: type) -> Any:
    """`value`, perhaps text, as `kind` (bool, int, float or str); `option` names it in errors.

    Raises
    ------
    UsageError
        If it is none.
    """
    try:
        if kind is bool:
            return _BOOLEANS[str(value).lower()]
        if kind is int and isinstance(value, float) and not value.is_integer():
            raise ValueError
        return kind(value)
    except (ValueError, KeyError):
        raise UsageError(f"{option} takes {kind.__name__}, not {value!r}") from None


def parse_duration(text: str) -> float:
    """``90s``, ``20m``, ``1.5h`` or a number of minutes -> minutes.

    Raises
    ------
    UsageError
        If it is none of these.
    """
    units = {"s": 1 / 60, "m": 1.0, "h": 60.0}
    number = text[:-1] if text[-1:] in units else text
    try:
        minutes = float(number) * units.get(text[-1:], 1.0)
    except ValueError:
        minutes = -1.0
    if not 0 < minutes < float("inf"):
        raise UsageError(f"{text!r} is no length of time; write 90s, 20m or 2h")
    return minutes


def parse_range(text: str) -> tuple[float, float]:
    """``0.3`` -> (0.3, 0.3); ``0.8-0.95`` -> (0.8, 0.95): fractions above 0 and below 1.

    Raises
    ------
    UsageError
        If it is neither.
    """
    try:
        values = [float(part) for part in str(text).split("-")]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not 0 <= values[0] <= values[-1] < 1:
        raise UsageError(f"{text!r} is no fraction or range of fractions, such as 0.3 or 0.8-0.95")
    return values[0], values[-1]
