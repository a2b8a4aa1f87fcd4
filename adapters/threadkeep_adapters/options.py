"""Reading the options of a store's URL, for every store whose options are numbers with bounds."""

from __future__ import annotations

from threadkeep.errors import InvalidURL


def number(name: str, given: str | None, default: float, least: float, most: float, *, whole: bool = False) -> float:
    """The number that an option gives, `default` where it is not given. Raises InvalidURL out of its bounds."""
    if given is None:
        return default
    try:
        found = int(given) if whole else float(given)
    except ValueError:
        found = least - 1
    if not least <= found <= most:
        raise InvalidURL(f"{name} is a {'whole ' if whole else ''}number from {least:g} to {most:g}, not {given!r}")
    return found
