"""Numbers as people read them: as many digits as their doubt allows, and always a unit."""

from __future__ import annotations

import math

from nas.core.measurement import Measurement

_SHORT = {"10^6 bytes": "MB", "parameters": "", "MACs": "", "images/s": "img/s"}
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def short_unit(unit: str) -> str:
    """The unit as tables print it; empty where the objective's name already says it.

    >>> short_unit("10^6 bytes"), short_unit("parameters"), short_unit("ms")
    ('MB', '', 'ms')
    """
    return _SHORT.get(unit, unit)


def decimals(spread: float) -> int:
    """Decimal places that show a spread with two digits, at most nine.

    >>> decimals(1.85), decimals(0.01), decimals(40)
    (1, 3, 0)
    """
    return min(9, max(0, 1 - math.floor(math.log10(spread)))) if spread > 0 else 0


def plain(value: float) -> str:
    """A number without doubt: four digits, thousands as k, M, G and T.

    >>> plain(28589128), plain(2.31456), plain(0.00012345), plain(640)
    ('28.59 M', '2.315', '0.0001234', '640')
    """
    for scale, letter in _SCALES:
        if abs(value) >= max(scale, 1e4):
            return f"{value / scale:.4g} {letter}"
    return f"{value:.4g}"


def with_unit(text: str, unit: str) -> str:
    """A formatted number and its unit.

    >>> with_unit("2.315", "10^6 bytes"), with_unit("28.59 M", "parameters")
    ('2.315 MB', '28.59 M')
    """
    return f"{text} {short_unit(unit)}".rstrip()


def value_text(measurement: Measurement) -> str:
    """The value alone, with the digits its interval allows, without its unit."""
    spread = (measurement.high - measurement.low) / 2
    if spread <= 0:
        return plain(measurement.value)
    if abs(measurement.value) >= 1e5:
        return plain(measurement.value)
    return f"{measurement.value:.{decimals(spread)}f}"


def interval(measurement: Measurement) -> str:
    """The value with the interval of a repeat and its unit; `~` where it is predicted.

    >>> interval(Measurement("accuracy", 97.2, "%", 95.1, 98.8, 0.9, 200, "measured", ""))
    '97.2 [95.1, 98.8] %'
    >>> interval(Measurement.exact("params", 28589128, "parameters"))
    '28.59 M'
    """
    text = value_text(measurement)
    if measurement.high > measurement.low:
        places = decimals((measurement.high - measurement.low) / 2)
        large = abs(measurement.value) >= 1e5
        low, high = (
            plain(end) if large else f"{end:.{places}f}"
            for end in (measurement.low, measurement.high)
        )
        text = f"{text} [{low}, {high}]"
    return _marked(with_unit(text, measurement.unit), measurement)


def compact(measurement: Measurement) -> str:
    """The value with half its interval, for narrow tables; `~` where it is predicted.

    Where the interval is a factor, as of most predictions, the factor stands there.

    >>> compact(Measurement("accuracy", 97.2, "%", 95.1, 98.8, 0.9, 200, "measured", ""))
    '97.2 ±1.9 %'
    """
    text, spread = value_text(measurement), (measurement.high - measurement.low) / 2
    below, above = measurement.value - measurement.low, measurement.high - measurement.value
    if measurement.low > 0 and above > 1.5 * below:
        text = f"{text} ×÷{math.sqrt(measurement.high / measurement.low):.2g}"
    elif spread > 0:
        half = plain(spread) if abs(measurement.value) >= 1e5 else f"{spread:.{decimals(spread)}f}"
        text = f"{text} ±{half}"
    return _marked(with_unit(text, measurement.unit), measurement)


def duration(seconds: float) -> str:
    """A time span in its two largest units.

    >>> duration(7.4), duration(222), duration(7500)
    ('7 s', '3 min 42 s', '2 h 05 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def percent(probability: float) -> str:
    """A probability as a whole percentage that is never rounded to certainty.

    >>> percent(1.0), percent(0.998), percent(0.62), percent(0.001)
    ('100 %', '>99 %', '62 %', '<1 %')
    """
    if 0.995 <= probability < 1:
        return ">99 %"
    if 0 < probability < 0.005:
        return "<1 %"
    return f"{100 * probability:.0f} %"


def _marked(text: str, measurement: Measurement) -> str:
    return f"~{text}" if measurement.source == "predicted" else text
