"""Law 7: fidelity.

What comes back is what went in: every part kind, unknown part kinds, metadata, order of parts, empty strings, empty
lists, NUL characters, astral Unicode, integers beyond 2^53, floats to the last bit, nested JSON 100 deep, key names
such as `$set`, `a.b`, `__proto__`, timestamps to the microsecond with their instant kept. What cannot be stored (lone
surrogates, NaN, infinity, ids that are empty or too long, a value that is not JSON) is refused by name before anything
is written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from operator import itemgetter
from typing import Any, Final

from hypothesis import strategies as st

from threadkeep.errors import InvalidContent, InvalidId, InvalidInput, LimitExceeded
from threadkeep.handles import Memory
from threadkeep.messages import Message, dump, parse_message
from threadkeep.port import Changes, Doc, Put, Resource, Thread, canonical_json
from threadkeep_contract.evidence import least
from threadkeep_contract.harness import ALL, Harness, Law, appending, raw_record
from threadkeep_contract.inputs.confusable import IDS, just_before, lead
from threadkeep_contract.reference.machine import START


def _nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = "deepest"
    for _ in range(depth):
        value = wrap(value)
    return value


VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, "", " ", [], {}, [[]], [{}], {"": ""}, [None], {"a": None}, [""], {"a": []}),
    *(2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**40, -(10**400)),
    *(0.1, 1 / 3, 5e-324, 2.2250738585072014e-308, sys.float_info.max, -0.0, 0.0, 1.0, 1e16, 1e22, 123456789.123456789),
    *("a\x00b", "\x00", "\x01\x02\x1f\x7f", "\u0085\u2028\u2029", "\ufeff", "\ufffd\ufffe\uffff", "\U0010ffff"),
    *(
        "😀👩\u200d💻",
        "e\u0301",
        "é",
        "\u200f\u202eabc",
        " padded ",
        "line\r\nline\rline\n",
        "\t",
        "\\",
        '"',
        "'",
        "%s{}",
    ),
    *("</script>", "&amp;", "'; DROP TABLE messages; --", "null", "123", "1e5", "true", "2024-01-01T00:00:00Z"),
    {"$set": {"$ne": 1}, "a.b": {"c.d": 2}, "__proto__": {"x": 1}, "constructor": 1, "$": 1, ".": 2, "": 3, " ": 4},
    {"z": 1, "a": 2, "m": {"y": 1, "b": 2}, "10": 1, "9": 2, "B": 1, "b": 2},
    {"a\x00b": 1, "é": 1, "e\u0301": 2, "😀": 3, "a": 1, "A": 2, "a ": 3},
    [1, 1.0, "1", True, [1], {"1": 1}],
    {"_id": 1, "id": 2, "type": "text", "S": "x", "N": "1", "NULL": True, "$oid": "0" * 24, "$numberLong": "5"},
    _nested(100, lambda inner: [inner]),
    _nested(100, lambda inner: {"in": inner}),
    _nested(50, lambda inner: {"in": [inner]}),
    "x" * 70_000,
    "é😀" * 20_000,
)
"""Values that some database or some conversion has changed."""

_TEXT: Final = st.text(st.characters(codec="utf-8"), max_size=20)
_KEYS: Final = st.one_of(st.sampled_from(("$set", "a.b", "__proto__", "", "_id", "$ne", "a\x00b")), _TEXT)
JSON: Final = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), _TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_KEYS, inner, max_size=4)),
    max_leaves=12,
)
"""Any JSON value."""

PARTS: Final[tuple[dict[str, Any], ...]] = (
    {"type": "text", "text": ""},
    {"type": "text", "text": "hello\x00", "provider": {"openai": {"annotations": []}}, "unknown_field": [1, None]},
    {"type": "reasoning", "text": "thinking", "signature": "c2ln"},
    {"type": "reasoning"},
    {"type": "tool_call", "tool_call_id": "call_1", "name": "search", "arguments": '{"q": "a",  "n": 1e2}'},
    {"type": "tool_call", "tool_call_id": "", "name": "", "arguments": {"$set": 1, "n": 2**70, "f": 0.1}},
    {"type": "tool_result", "tool_call_id": "call_1", "name": "search", "result": {"a": [1, {"b": None}]}},
    {"type": "tool_result", "tool_call_id": "call_2", "result": None, "is_error": True},
    {"type": "tool_result", "tool_call_id": "call_3", "result": "", "is_error": False},
    {"type": "file", "media_type": "image/png", "data": "iVBORw0KGgo=", "filename": "ä.png"},
    {"type": "file", "url": "https://example.org/a?b=c#d"},
    {"type": "source", "source_id": "s1", "url": "https://example.org", "title": ""},
    {"type": "data", "name": "chart", "data": [0.1, 2**60, {}]},
    {"type": "data", "data": False},
    {"type": "step-start"},
    {"type": "x-of-tomorrow", "payload": {"a.b": [None, {"$ne": 1}]}, "text": 5, "provider": {"k": "v"}},
)
"""Every kind of part, with its empty and odd values, and kinds that nobody knows."""


def _exact(value: Any) -> str:
    """JSON text that tells 1 from 1.0 from true, 0.0 from -0.0, and one order of keys from another."""
    return json.dumps(value, ensure_ascii=False)


class Fidelity(Law):
    """What comes back is what went in, and what cannot come back is not taken."""

    number = 7
    title = "Fidelity"

    @least(commits=10, loads=10)
    def test_bodies_come_back_letter_by_letter(self, harness: Harness) -> None:
        """Records come back letter by letter: text, digest and id. A catalogue of values that one database or another
        changes is written as the bodies of records and read through another handle.
        """

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            bodies = [canonical_json({"value": value}, "value") for value in VALUES if harness.takes(value)]
            bodies += [canonical_json(value, "value") for value in VALUES if harness.takes(value)]
            room = harness.fresh()
            for start in range(0, len(bodies), 10):
                harness.history.clear()
                scope = Thread(f"{room}r{start}", "t")
                made = [raw_record(f"m{number}", body) for number, body in enumerate(bodies[start : start + 10])]
                await one.commit(scope, appending(harness, START, *made))
                found = list((await two.load(scope, ALL)).records)
                for sent, entry in zip(made, found, strict=False):
                    harness.expect("a record comes back as it went in", tuple(sent), tuple(entry[2:]))
                harness.expect("every record comes back", len(made), len(found))

        harness.run(check)

    @least(commits=30, loads=30, lists=30)
    def test_documents_come_back_letter_by_letter(self, harness: Harness) -> None:
        """Documents come back letter by letter. The same values are put into a thread and into its resource, and are
        read in loads and in lists of threads. A removed document is None, at its next version.
        """

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            room = harness.fresh()
            scope, resource = Thread(room + "r", "t"), Resource(room + "r")
            values = [value for value in VALUES if harness.takes(value)]
            for number, value in enumerate(values):
                harness.history.clear()
                body = canonical_json(value, "value")
                changes = Changes(
                    at=START,
                    epoch=harness.epoch(),
                    puts=(Put("info", body),),
                    resource_puts=(Put("working_memory", body),),
                )
                await one.commit(scope, changes)
                found = await two.load(scope)
                doc = Doc(number + 1, body)
                harness.expect("a thread's document comes back as it went in", doc, found.docs.get("info"))
                harness.expect(
                    "a resource's document comes back as it went in", doc, found.resource_docs.get("working_memory")
                )
                (row,) = await two.threads(resource, slots=("info",))
                harness.expect("a document comes back in a list of threads", doc, row.docs.get("info"))
            await one.commit(scope, Changes(at=START, epoch=harness.epoch(), puts=(Put("info", None),)))
            removed = (await two.load(scope)).docs.get("info")
            harness.expect("a removed document is None at its next version", Doc(len(values) + 1, None), removed)

        harness.run(check)

    @least(commits=5, loads=5)
    def test_random_values_come_back(self, harness: Harness) -> None:
        """Random JSON comes back letter by letter, from a record and from a document."""

        async def check(value: Any) -> None:
            (handle,) = await harness.reused(1)
            body = canonical_json(value, "value")
            scope = Thread(harness.fresh() + "r", "t")
            sent = raw_record("m", body)
            await handle.commit(scope, appending(harness, START, sent, puts=(Put("working_memory", body),)))
            found = await handle.load(scope, ALL)
            harness.expect("a record comes back as it went in", [tuple(sent)], [tuple(e[2:]) for e in found.records])
            harness.expect("a document comes back", {"working_memory": Doc(1, body)}, dict(found.docs))

        harness.explore(JSON, check)

    def test_messages_come_back_equal(self, harness: Harness) -> None:
        """Messages come back equal through the handles, with the order of keys and the kinds of numbers. They have
        every kind of part, kinds and fields that nobody knows, odd roles, names and metadata, and instants from year 1
        to 9999 in several time zones.
        """

        async def check() -> None:
            memory = Memory(await harness.open())
            again = Memory(await harness.open())
            east = timezone(timedelta(hours=5, minutes=45))
            moments = [
                datetime(2024, 2, 29, 23, 59, 59, 999999, UTC),
                datetime(1969, 12, 31, 23, 59, 59, 1, UTC),
                datetime(1, 1, 2, 0, 0, 0, 123456, UTC),
                datetime(9999, 12, 30, 0, 0, 0, 654321, UTC),
                datetime(2024, 6, 1, 12, 0, 0, 7, east),
            ]
            parts = [part for part in PARTS if harness.takes(part)]
            messages: list[Message] = [
                parse_message({"id": "all", "role": "assistant", "parts": [*parts, *parts[::-1]]})
            ]
            messages += [
                parse_message({"id": f"part{number}", "role": "tool", "parts": [part]})
                for number, part in enumerate(parts)
            ]
            messages += [
                parse_message({"id": "none", "role": "user", "parts": []}),
                parse_message({"id": "role", "role": "", "parts": [], "name": "", "metadata": {}}),
                parse_message(
                    {
                        "id": "extra",
                        "role": "of our own",
                        "name": "Bob",
                        "parts": [],
                        "metadata": {"$set": 1, "a.b": [{}], "n": 2**64},
                        "provider": {"__proto__": None, "f": 0.1},
                        "field_of_tomorrow": {"x": [1, 2.0]},
                    }
                ),
            ]
            messages += [
                Message.user("then", id=f"moment{number}", created_at=moment) for number, moment in enumerate(moments)
            ]
            thread = memory.thread(harness.fresh() + "r", "t")
            await thread.append(*messages)
            found = await again.thread(thread.resource_id, "t").messages()
            harness.expect("as many messages", len(messages), len(found))
            for sent, got in zip(messages, found, strict=True):
                plain = dump(got)
                plain.pop("position", None)
                plain.pop("stored_at", None)
                harness.expect(f"message {sent.id} comes back", _exact(dump(sent)), _exact(plain))
                harness.expect(f"message {sent.id} is equal", True, sent == got)

        harness.run(check)

    @least(commits=50, loads=50)
    def test_working_memory_and_metadata_come_back_equal(self, harness: Harness) -> None:
        """Working memory of both scopes, a title and metadata come back equal through the handles, with the order of
        keys and the kinds of numbers.
        """

        async def check() -> None:
            memory = Memory(await harness.open())
            resource = memory.resource(harness.fresh() + "r")
            values = [value for value in VALUES if value is not None and harness.takes(value)]
            title = "Título \x00 😀 " if harness.takes("\x00") else "Título 😀 "
            thread = await resource.create_thread("t", title=title, metadata={"all": values[:60]})
            info = await thread.info()
            harness.expect("the title", title, info.title)
            harness.expect("the metadata", _exact({"all": values[:60]}), _exact(info.metadata))
            for value in values:
                harness.history.clear()
                for holder in (thread.working_memory, resource.working_memory):
                    await holder.put(value)
                    harness.expect("the working memory", _exact(value), _exact((await holder.get()).value))

        harness.run(check)

    @least(commits=20, loads=10, lists=10)
    def test_ids_come_back_letter_by_letter(self, harness: Harness) -> None:
        """Ids come back letter by letter from records, from lists of threads and from the list of resources. All ids of
        the catalogue of law 1 are tried, or a share of them in the shorter profiles.
        """
        pairs = harness.some(IDS, 1 / 3, kind=itemgetter(0))

        async def check() -> None:
            handle = await harness.open()
            room = harness.fresh()
            ids = list(dict.fromkeys(one for _, *pair in pairs for one in pair))
            resource = Resource(room + "r")
            for number, one in enumerate(ids):
                await handle.commit(
                    Thread(resource.resource_id, one), appending(harness, START + number, raw_record(one, "{}"))
                )
            rows = await handle.threads(resource, limit=1000)
            harness.expect("thread ids in a list", ids, [row.thread_id for row in rows])
            for one in ids:
                found = await handle.load(Thread(resource.resource_id, one), ALL)
                harness.expect("a message id", [one], [entry.id for entry in found.records])

        harness.run(check)

        async def resources(one: str) -> None:
            (handle,) = await harness.reused(1)
            low = harness.fresh()
            resource_id = lead(one) + low + one[len(lead(one)) :]
            await handle.commit(Resource(resource_id), Changes(at=START, puts=(Put("working_memory", "1"),)))
            page = await handle.resources(just_before(lead(one) + low), 1)
            harness.expect("a resource id in the list of resources", [resource_id], list(page))

        for _, *pair in pairs:
            for one in pair:
                harness.history.clear()
                harness.run(resources, one)

    @least(commits=5, loads=5, lists=5)
    def test_times_are_kept_to_the_microsecond(self, harness: Harness) -> None:
        """The times of commits, of a thread's creation and of its last activity are kept to the microsecond, in loads
        and in lists, and an edit does not reset the creation.
        """

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            for at in (1_700_000_000_123_457, 1, 253_402_300_799_999_998, 2**52 + 1, 999_999):
                scope = Thread(harness.fresh() + "r", "t")
                await one.commit(scope, appending(harness, at, raw_record("a", "{}")))
                await one.commit(scope, appending(harness, at + 1, raw_record("b", "{}")))
                await one.commit(scope, Changes(at=at - 1, epoch=harness.epoch(), puts=(Put("info", "{}"),)))
                found = await two.load(scope, ALL)
                harness.expect("the times of the records", [at, at + 1], [entry.at for entry in found.records])
                harness.expect("created, and active", (at, at + 1), (found.created, found.active))
                (row,) = await two.threads(Resource(scope.resource_id))
                harness.expect("created, and active, in a list", (at, at + 1), (row.created, row.active))

        harness.run(check)

    @least(commits=0)
    def test_what_cannot_be_stored_is_refused(self, harness: Harness) -> None:
        """What is not JSON, ids that cannot be encoded or are too long, and nesting without end are refused by name,
        through the handles and at the store. Nothing is written: the thread is not even created.
        """

        async def check() -> None:
            handle = await harness.open()
            memory = Memory(handle)
            thread = memory.thread(harness.fresh() + "r", "t")
            nan, infinity, lone = float("nan"), float("inf"), "a\ud800"
            values: list[Any] = [nan, infinity, -infinity, lone, {lone: 1}, {1: 1}, (1,), {1}, b"x", object(), 1j]
            deep = _nested(1000, lambda inner: [inner])
            for bad in [*values, [values[0]], {"a": [values[3]]}, deep]:
                promise = "what is not JSON is refused"
                await harness.refused(promise, InvalidContent, thread.working_memory.put(bad))
                await harness.refused(promise, InvalidContent, thread.create(metadata={"a": bad}))
                await _refused_message(harness, memory, thread.resource_id, {"data": bad})
            for bad_id, kind in (
                ("", InvalidId),
                (lone, InvalidId),
                ("x" * (handle.limits.id_bytes + 1), LimitExceeded),
            ):
                promise = "an id that cannot be kept is refused by name"
                await harness.refused(promise, kind, thread.append(Message.user("x", id=bad_id)))
                await harness.refused(promise, kind, handle.load(Thread(thread.resource_id, bad_id)))
                await harness.refused(promise, kind, handle.load(Resource(bad_id)))
            left = await handle.load(Thread(thread.resource_id, "t"), ALL)
            harness.expect("nothing was written", "", left.tail.epoch)
            harness.expect("nothing was written", 0, len(list(await handle.threads(Resource(thread.resource_id)))))

        harness.run(check)


async def _refused_message(harness: Harness, memory: Memory, resource_id: str, part: dict[str, Any]) -> None:
    """A message with this part beside good ones is refused, at the latest by the append."""

    async def build_and_append() -> object:
        message = Message.model_validate({"id": "bad", "role": "user", "parts": [{"type": "data", **part}]})
        return await memory.thread(resource_id, "t").append(Message.user("good"), message)

    await harness.refused("a message that is not JSON is refused", InvalidInput, build_and_append())
