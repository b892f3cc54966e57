"""Numbers as people read them."""

from __future__ import annotations

from autoslim.resources import RESOURCES


def quantity(value: float) -> str:
    """Three significant digits with a decimal prefix.

    >>> [quantity(x) for x in (0, 999, 20_440_320, 5_900_000_000)]
    ['0', '999', '20.4 M', '5.9 G']
    """
    return _scaled(value, 1000.0, ("", "k", "M", "G", "T", "P"))


def memory(value: float) -> str:
    """Bytes with a binary prefix.

    >>> memory(131072), memory(1_500_000)
    ('128 KiB', '1.43 MiB')
    """
    return _scaled(value, 1024.0, ("B", "KiB", "MiB", "GiB", "TiB"))


def amount(value: float | None, resource: str) -> str:
    """An amount of a resource in few digits; None: unknown.

    >>> amount(20_440_320, "flops"), amount(1.4142, "latency"), amount(None, "flops")
    ('20.4 M', '1.41 ms', 'unknown')
    """
    if value is None:
        return "unknown"
    row = RESOURCES[resource]
    if row.form == "plain":
        return f"{value:.3g} {row.unit}"
    return memory(value) if row.form == "binary" else quantity(value)


def exact_amount(value: float | None, resource: str) -> str:
    """An amount of a resource with all digits, where these are of use; None: unknown.

    >>> exact_amount(20_440_320, "flops"), exact_amount(131072, "memory")
    ('20,440,320', '128 KiB')
    """
    if value is not None and RESOURCES[resource].form == "decimal":
        return exact(int(value))
    return amount(value, resource)


def _scaled(value: float, base: float, prefixes: tuple[str, ...]) -> str:
    power = 0
    while abs(value) >= base * 0.9995 and power < len(prefixes) - 1:
        value /= base
        power += 1
    digits = 0 if power == 0 or abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    text = f"{value:.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return f"{text} {prefixes[power]}".rstrip()


def exact(value: int) -> str:
    """A whole number with thousands separators.

    >>> exact(20440320)
    '20,440,320'
    """
    return f"{int(value):,}"


def percent(share: float, digits: int = 1) -> str:
    """A share in [0, 1] as a percentage.

    >>> percent(0.5012)
    '50.1 %'
    """
    return f"{100 * share:.{digits}f} %"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> duration(75), duration(4000)
    ('1:15', '1:06:40')
    """
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def rate(units_per_second: float, unit: str) -> str:
    """Units a second, or seconds a unit where that is the larger number.

    >>> rate(123.4, "step"), rate(0.25, "step")
    ('123 step/s', '4 s/step')
    """
    if units_per_second <= 0:
        return ""
    return (
        f"{units_per_second:.3g} {unit}/s"
        if units_per_second >= 1
        else f"{1 / units_per_second:.3g} s/{unit}"
    )
