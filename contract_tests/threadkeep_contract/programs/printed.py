"""The texts of programs that show a fault: calls in order, a race, or the check itself, with all that they import."""

from __future__ import annotations

import io
import json
import textwrap
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from types import ModuleType
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from threadkeep import errors, port
from threadkeep.errors import ThreadkeepError
from threadkeep.port import URL_VARIABLE, Record, Stored, installed_schemes, load_plugin, scheme_of
from threadkeep_contract.harness import record
from threadkeep_contract.history import Call
from threadkeep_contract.profiles import Profile
from threadkeep_contract.replay import Difference
from threadkeep_contract.source import WIDTH, Writer, comments, laid_out, shortened, source

ROUNDS: Final = 200
"""How often the program of a race runs it."""


@dataclass(frozen=True, slots=True)
class Case:
    """A broken check: of which store and law, with what it was run, which promise it found broken, and how."""

    url: str
    law: int
    title: str
    check: str
    profile: Profile
    seed: int
    promise: str
    calls: Sequence[Call] = ()
    token: str = ""
    """Of the harness that made the calls."""
    turns: Sequence[int] = ()
    """Which task went on, in order, where the calls were scheduled."""


class _Source(Writer):
    """Writes what belongs to a room by the name ROOM, and records as the suite makes them."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._names: dict[Record, str] = {}
        self.records: list[str] = []
        """Statements that name the records that have been written."""

    def write(self, value: object) -> str:
        match value:
            case Stored() if (made := self._record(Record(value.id, value.digest, value.body))) is not None:
                return f"Stored({value.position}, {value.at}, *{made})"
            case Record() if (made := self._record(value)) is not None:
                return made
        return super().write(value)

    def _record(self, value: Record) -> str | None:
        if value.digest != sha256(value.body.encode("utf-8", "surrogatepass")).hexdigest():
            return None
        if value not in self._names:
            made = self._made(value)
            if len(made) < 16:
                return made
            self._names[value] = f"record{len(self._names) + 1}"
            self.records += laid_out(f"{self._names[value]} = {made}", WIDTH - 8)
        return self._names[value]

    def _made(self, value: Record) -> str:
        try:
            text = json.loads(value.body)["parts"][0]["text"]
            if record(value.id, text) == value:
                return f"record({self.text(value.id)}{', ' + self.text(text) if text else ''})"
        except (ValueError, LookupError, TypeError, ThreadkeepError):
            pass
        return f"raw_record({self.text(value.id)}, {self.text(value.body)})"

    def text(self, value: str) -> str:
        if not self._token or self._token not in value:
            return super().text(value)
        pieces = [super(_Source, self).text(piece) if piece else "" for piece in value.split(self._token)]
        joined = " + ROOM + ".join(pieces)
        return joined.removeprefix(" + ").removesuffix(" + ")


def handles_of(calls: Sequence[Call]) -> list[str]:
    """The names of the handles that calls go through, the first that was taken first."""
    return sorted({call.handle for call in calls}, key=lambda name: (len(name), name))


def _call(write: _Source, call: Call) -> str:
    args = ", ".join(write.write(arg) for arg in call.args)
    return f"{call.handle}.{call.verb}({args})"


def text_in_order(case: Case, calls: Sequence[Call], found: Difference) -> str:
    """The program that makes calls one after the other, and compares the last answer with the one that was expected."""
    write = _Source(case.token)
    names = handles_of(calls)
    opened = [f"{name} = open_store(URL)" for name in names]
    body = []
    for call in calls[:-1]:
        body += laid_out(f"await answer({_call(write, call)})", WIDTH - 4)
    last = f"await answer({_call(write, calls[-1])})"
    if calls[-1].verb == "resources":
        body += laid_out(f"page = {last}", WIDTH - 4)
        body += ["seen = [one for one in page if ROOM in one] if isinstance(page, list | tuple) else page"]
    else:
        body += laid_out(f"seen = {last}", WIDTH - 4)
    body += [f"# gave {shortened(write.write(found.seen), WIDTH - 11)}"]
    body += laid_out(f"expected = {write.write(found.expected)}", WIDTH - 4)
    body += [f"await answer({name}.close())" for name in names]
    body += ["verdict(PROMISE, expected, seen)"]
    function = _function("main()", [*opened, *write.records, *body])
    return _module(case, ["ROOM = room()"], function, "asyncio.run(main())")


def text_of_race(case: Case, groups: Sequence[Sequence[Call]], count: int, rounds: int) -> str:
    """The program that runs a race; each group of calls overlaps. It showed the fault in so many of so many rounds."""
    write = _Source(case.token)
    names = handles_of([call for group in groups for call in group])
    body = ["history = History(URL)"]
    body += [f"{name} = Recorded(open_store(URL).store, history, {name!r})" for name in names]
    body += ["shown = 0", f"for _ in range({ROUNDS}):"]
    inner: list[str] = []
    for group in groups:
        if len(group) == 1:
            inner += laid_out(f"await answer({_call(write, group[0])})", WIDTH - 8)
        else:
            works = "".join(f"answer({_call(write, call)}), " for call in group)
            inner += laid_out(f"await asyncio.gather({works.removesuffix(', ')})", WIDTH - 8)
    inner += ["# Is there an order in which the reference model answers as the store did?"]
    inner += ["shown += not explained(history.calls, ROOM)"]
    inner = ["ROOM = room()", "history.clear()", *write.records, *inner]
    body += [f"    {line}" for line in inner]
    body += [f"await answer({name}.close())" for name in names]
    body += [f"race_verdict(PROMISE, shown, {ROUNDS})"]
    said = comments(f"When this was printed, the race showed the fault in {count} of {rounds} rounds.")
    return _module(case, [], [*said, *_function("main()", body)], "asyncio.run(main())")


def text_of_schedule(case: Case, calls: Sequence[Call], turns: Sequence[int]) -> str:
    """The program that makes calls of tasks, of which one goes on at a time, as `turns` says, up to where it waits."""
    write = _Source(case.token)
    names = handles_of(calls)
    first = min(call.began for call in calls if call.task)
    tasks = [
        [f"lambda: answer({_call(write, call)})" for call in calls if call.task == number]
        for number in range(1, max(turns) + 1)
    ]
    before = [call for call in calls if not call.task and call.began < first]
    after = [call for call in calls if not call.task and call.began > first]
    body = ["history = History(URL)"]
    body += [f"{name} = Recorded(open_store(URL).store, history, {name!r})" for name in names]
    # Within its first verb a handle would be opened in steps of its own.
    opened = [f"await answer({name}.open())" for name in names]
    made = [line for call in before for line in laid_out(f"await answer({_call(write, call)})", WIDTH - 4)]
    for number, works in enumerate(tasks, 1):
        made += laid_out(f"task{number} = [{', '.join(works)}]", WIDTH - 4)
    named = ", ".join(f"task{number}" for number in range(1, len(tasks) + 1))
    made += comments(
        "Who goes on, each time up to the next place where it waits, or to the end of its call:", WIDTH - 4
    )
    made += laid_out(f"turns = {list(turns)}", WIDTH - 4)
    made += [f"await in_turns([{named}], turns, history.going)"]
    made += [line for call in after for line in laid_out(f"await answer({_call(write, call)})", WIDTH - 4)]
    body += [*opened, *write.records, *made, *(f"await answer({name}.close())" for name in names)]
    body += ["# Is there an order in which the reference model answers as the store did?"]
    body += ["schedule_verdict(PROMISE, history)"]
    return _module(case, ["ROOM = room()"], _function("main()", body), "asyncio.run(main())")


def text_of_check(case: Case) -> str:
    """The program that runs the check itself."""
    said = comments(
        "This runs the whole check: what it does beside calls is part of the fault, or needs more than a few of them."
    )
    code = laid_out(
        f"check_again(URL, {case.law}, {case.check!r}, profile={case.profile.name!r}, seed={case.seed})", WIDTH - 4
    )
    # The check may start processes, which import this module where they cannot be forked.
    body = [*said, 'if __name__ == "__main__":', *(f"    {line}" for line in code)]
    return _module(case, [], [], "\n".join(body), promise=False)


def _function(signature: str, body: Sequence[str]) -> list[str]:
    return [f"async def {signature}:", *(f"    {line}" for line in body)]


def _module(case: Case, constants: Sequence[str], function: Sequence[str], end: str, *, promise: bool = True) -> str:
    head = comments(f"Law {case.law} ({case.title}), {case.check}: {' '.join(case.promise.split())}")
    lines = [*_url(case.url)]
    if promise:
        lines += laid_out(f"PROMISE = {source(' '.join(case.promise.split()))}", WIDTH)
    lines += constants
    registration = _registration(case.url)
    code = "\n".join([*lines, "", "", *function, "", "", end] if function else [*lines, "", end])
    imports = _imports("\n".join([*registration, code]))
    return "\n".join([*head, *imports, "", *registration, code, ""])


def _imports(code: str) -> list[str]:
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    used = {token.string for token in tokens if token.type == tokenize.NAME}
    standard = [f"import {name}" for name in ("asyncio", "os") if name in used]
    ours = []
    for module, names in _MODULES.items():
        if found := sorted(used & names):
            ours += _import(module, found)
    return [*standard, *([""] if standard and ours else []), *ours]


def _import(module: str, names: Sequence[str]) -> list[str]:
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= WIDTH:
        return [line]
    rows = textwrap.wrap(f"{', '.join(names)},", WIDTH, initial_indent="    ", subsequent_indent="    ")
    return [f"from {module} import (", *rows, ")"]


_MODULES: Final = {
    "threadkeep.errors": {name for name, kind in vars(errors).items() if isinstance(kind, type)},
    "threadkeep.port": set(port.__all__),
    "threadkeep_contract.harness": {"record", "raw_record"},
    "threadkeep_contract.history": {"History", "Recorded"},
    "threadkeep_contract.replay": {"answer", "explained", "race_verdict", "room", "schedule_verdict", "verdict"},
    "threadkeep_contract.scheduling": {"in_turns"},
    "threadkeep_contract.report": {"check_again"},
}
"""Where the names come from that a program may use."""


def _url(url: str) -> list[str]:
    shown = without_password(url)
    if shown == url:
        return laid_out(f"URL = {url!r}")
    return [
        *comments(f"The password is not printed. Put the URL into {URL_VARIABLE}: {shown}"),
        f"URL = os.environ[{URL_VARIABLE!r}]",
    ]


def _registration(url: str) -> list[str]:
    """How a store that no installed package answers for is registered."""
    scheme = scheme_of(url)
    if scheme in installed_schemes():
        return []
    plugin = load_plugin(scheme)
    if isinstance(plugin, ModuleType):
        return [f"import {plugin.__name__} as plugin", "", f"register({scheme!r}, plugin)"]
    kind = type(plugin)
    return [
        *comments(
            f"The store of {scheme}:// was registered by hand, as an object of {kind.__module__}.{kind.__qualname__}."
            f" Do that here: threadkeep.port.register({scheme!r}, ...)."
        ),
    ]


def without_password(url: str) -> str:
    """The URL with its password, where it has one, as ***."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}"))
