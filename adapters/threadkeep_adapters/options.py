"""The options of stores' URLs: how each is declared, and how they are read.

The `url.py` of each store declares its options and lists them as OPTIONS, from which the table of its page is written.
What is common has one name in all stores: `timeout`, `connect_timeout` and `connections`. Options that a server's own
URLs define keep the names that they have there.

No error repeats the URL, which may hold a password.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeAlias, TypeVar
from urllib.parse import parse_qsl, quote, unquote

from threadkeep.errors import InvalidURL

T = TypeVar("T")
N = TypeVar("N", int, float)

LEAST_SECONDS: Final = 0.001
MOST_SECONDS: Final = 3600.0
MOST_CONNECTIONS: Final = 1000


@dataclass(frozen=True, slots=True)
class Option(Generic[T]):
    """An option of a store. `default` is its value where the URL does not give it."""

    name: str
    default: T
    meaning: str
    """What it is for, as a clause."""
    values: str
    """Which values it takes, as errors say it after "NAME is "."""
    read: Callable[[str], T] = field(repr=False)
    """The value that a text stands for. Raises ValueError for a text that stands for none."""
    column: str
    """Which values it takes, as a column of a table says it."""
    unset: str = ""
    """What holds where it is not given, in words, where the default itself does not say it."""
    is_shown: bool = True
    """Whether an error may repeat the value."""


@dataclass(frozen=True, slots=True)
class DriverOption:
    """An option of the driver, which the store passes on as it is. `default` is None where it is the driver's."""

    name: str
    meaning: str
    default: str | int | None = None
    column: str = field(kw_only=True)
    """Which values it takes, as a column of a table says it."""
    unset: str = ""
    """What holds where it is not given, in words."""


AnyOption: TypeAlias = "Option[Any] | DriverOption"


def seconds(name: str, default: float, meaning: str) -> Option[float]:
    """A time that something may take."""

    def read(given: str) -> float:
        return _bounded(float(given), LEAST_SECONDS, MOST_SECONDS)

    return Option(
        name,
        default,
        meaning,
        values=f"a number of seconds from {LEAST_SECONDS:g} to {MOST_SECONDS:g}",
        read=read,
        column=f"seconds, {LEAST_SECONDS:g} to {MOST_SECONDS:,g}",
    )


def count(name: str, default: T, meaning: str, *, most: int, unset: str = "") -> Option[int | T]:
    """A number of things, from 1."""

    def read(given: str) -> int:
        if not (given.isascii() and given.isdecimal()):
            raise ValueError(given)
        return _bounded(int(given), 1, most)

    return Option(
        name,
        default,
        meaning,
        values=f"a whole number from 1 to {most}",
        read=read,
        column=f"1 to {most:,}",
        unset=unset,
    )


def connection_count(meaning: str) -> Option[int]:
    """How many connections or requests there are at once, at most."""
    return count("connections", 10, meaning, most=MOST_CONNECTIONS)


def choice(name: str, default: str, choices: Mapping[str, T], meaning: str) -> Option[T]:
    """One of some words, of any case, and the value that each of them stands for. `default` is one of the words."""

    def read(given: str) -> T:
        if given.lower() not in choices:
            raise ValueError(given)
        return choices[given.lower()]

    *others, last = choices
    return Option(
        name,
        choices[default],
        meaning,
        values=f"{', '.join(others)} or {last}",
        read=read,
        column=", ".join(f"`{word}`" for word in choices),
        unset=f"`{default}`",
    )


def text(
    name: str,
    default: T,
    meaning: str,
    *,
    values: str = "a text that is not empty",
    column: str = "text",
    fits: Callable[[str], bool] = bool,
    unset: str = "",
    is_shown: bool = True,
) -> Option[str | T]:
    """A text for which `fits` holds; `values` says which those are."""

    def read(given: str) -> str:
        if not fits(given):
            raise ValueError(given)
        return given

    return Option(
        name,
        default,
        meaning,
        values=values,
        read=read,
        column=column,
        unset=unset,
        is_shown=is_shown,
    )


YES_OR_NO: Final = {"yes": True, "no": False}


class Given:
    """The options that a URL gives."""

    def __init__(self, own: Mapping[str, Any], drivers: Sequence[tuple[str, str]]) -> None:
        self._own = own
        self.drivers = drivers
        """Those of the driver, by name as the URL writes it."""

    def __contains__(self, option: Option[Any]) -> bool:
        return option.name in self._own

    def __getitem__(self, option: Option[T]) -> T:
        """The value of an option, its default where the URL does not give it."""
        value: T = self._own.get(option.name, option.default)
        return value


def read_options(
    query: str,
    options: Sequence[AnyOption],
    *,
    refused: Mapping[str, str] | None = None,
    passes_unknown: bool = False,
) -> Given:
    """What the query of a URL gives.

    `refused` are names in lower case, with the reason. With `passes_unknown` what is not declared is the
    driver's. Raises InvalidURL for an option that is unknown, refused or given twice, and a value that it cannot have.
    """
    declared = {option.name: option for option in options}
    own: dict[str, Any] = {}
    drivers: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in own or name in drivers:
            raise InvalidURL(f"the URL gives {name} twice; give it once")
        if refused is not None and name.lower() in refused:
            raise InvalidURL(f"leave out the option {name}: {refused[name.lower()]}")
        option = declared.get(name)
        if isinstance(option, Option):
            own[name] = _read(option, value)
        elif option is not None or passes_unknown:
            drivers[name] = value
        else:
            raise InvalidURL(f"the URL has no option {name!r}; {_known(options)}")
    return Given(own, list(drivers.items()))


def _known(options: Sequence[AnyOption]) -> str:
    said = [f"{option.name} ({option.values})" if isinstance(option, Option) else option.name for option in options]
    return f"known are {', '.join(said)}" if said else "it takes none"


def _read(option: Option[T], given: str) -> T:
    try:
        return option.read(given)
    except ValueError:
        shown = f", not {given!r}" if option.is_shown else ""
        raise InvalidURL(f"{option.name} is {option.values}{shown}") from None


def _bounded(number: N, least: float, most: float) -> N:
    if not least <= number <= most:
        raise ValueError(number)
    return number


def with_value(url: str, option: Option[Any], value: str) -> str:
    """A URL in which an option has another value; the rest stays letter by letter."""
    place, _, query = url.partition("?")
    others = [pair for pair in query.split("&") if pair and unquote(pair.partition("=")[0]) != option.name]
    return f"{place}?{'&'.join([*others, f'{option.name}={quote(value, safe=str())}'])}"
