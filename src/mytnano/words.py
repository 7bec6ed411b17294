"""How numbers, times and settings are written, the same in the report and in the terminal."""

from __future__ import annotations

import unicodedata

MISSING = "–"
MINUS = "−"
_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: float | None, digits: int = 3) -> str:
    """A value with a fixed number of decimals; a dash if there is none."""
    return MISSING if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """As :func:`number`, with its sign; a value that rounds to zero has none."""
    if value is None:
        return MISSING
    text = f"{value:+.{digits}f}"
    return text[1:] if not float(text) else text.replace("-", MINUS)


def significant(value: float | None, digits: int = 3) -> str:
    """A value with some significant digits and no exponent below a million: ``0.0123``, ``45.6``.

    Values too small or too large for that are written ``1.23e-7``.
    """
    if value is None:
        return MISSING
    if value and not 1e-4 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", MINUS)
    return f"{float(f'{value:.{digits}g}'):.10g}".replace("-", MINUS)


def rounded(value: float, digits: int = 3) -> float:
    """A number with so many significant digits, for settings that people read.

    >>> rounded(0.0012345)
    0.00123
    """
    return float(f"{value:.{digits}g}")


def percent(value: float | None) -> str:
    """A share as a percentage with one decimal."""
    return MISSING if value is None else f"{100 * value:.1f}\u202f%"


def quantity(value: float | None, unit: str = "", zeros: bool = False) -> str:
    """A count with three significant digits and a decimal prefix: ``1.05 M``, ``12.3 kB``.

    ``zeros`` keeps those at the end, for columns: ``1.20 M``.
    """
    if value is None:
        return MISSING
    fitting = (each for each in _PREFIXES if abs(value) >= 0.9995 * each[0])
    size, prefix = next(fitting, (1, ""))
    digits = f"{value / size:#.3g}".rstrip(".") if zeros else significant(value / size)
    return f"{digits} {prefix}{unit}".rstrip()


def duration(seconds: float) -> str:
    """Words for a time: ``45 s``, ``4 min 10 s``, ``1 h 05 min``.

    >>> duration(250)
    '4 min 10 s'
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def setting(value: object) -> str:
    """The value of a config field: ``on`` and ``off`` for booleans, short numbers."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        mantissa, e, exponent = f"{value:g}".partition("e")
        return mantissa + (f"e{int(exponent)}" if e else "")
    return str(value)


def title(text: str) -> str:
    """A title with real arrows."""
    return text.replace("->", "→")


def clean(text: str) -> str:
    """Text that a model wrote, with control characters made visible as U+FFFD."""
    return "".join(c if _is_shown(c) else "\ufffd" for c in text)


def _is_shown(character: str) -> bool:
    return (
        character.isprintable()
        or character in "\n\t"
        or unicodedata.category(character) == "Zs"  # isprintable() denies all but one space
    )


def counted(number: int, one: str, many: str = "") -> str:
    """A number and its noun: ``1 run``, ``2 runs``, ``3 processes``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(words: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
