"""Law 11: limits.

Each store declares its limits; the least that any store may declare: ids of 512 UTF-8 bytes each, a message of 1 MiB,
100 messages or 2 MiB a commit, working memory of 256 KiB, thread metadata of 64 KiB, a title of 4 KiB. At the limit it
works. Above it: `LimitExceeded` naming the limit, the allowed and the given size, and nothing written. Sizes are bytes
of UTF-8, not characters.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields
from typing import Final

from threadkeep.errors import LimitExceeded, StoreFull
from threadkeep.handles import Memory
from threadkeep.messages import Message
from threadkeep.port import MIB, Changes, Put, Record, Resource, Stored, Thread, Window
from threadkeep.port import Limits as Declared
from threadkeep_contract import large
from threadkeep_contract.evidence import least
from threadkeep_contract.harness import ALL, Harness, Law, appending, raw_record, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.reference.beside import ORDERS, agree
from threadkeep_contract.reference.machine import START, plain
from threadkeep_contract.reference.model import Model

LEAST: Final = {
    "id_bytes": 512,
    "message_bytes": 1024 * 1024,
    "commit_messages": 100,
    "commit_bytes": 2 * 1024 * 1024,
    "working_memory_bytes": 256 * 1024,
    "metadata_bytes": 64 * 1024,
    "title_bytes": 4 * 1024,
}
"""What every store has to take, at least."""


def _body(size: int, fill: str = "x") -> str:
    """JSON text of so many bytes of UTF-8: a string of `fill`, rounded off with x."""
    width = len(fill.encode())
    return '"' + fill * ((size - 2) // width) + "x" * ((size - 2) % width) + '"'


def _id(size: int, start: str, fill: str = "i") -> str:
    """An id of so many bytes of UTF-8 that begins with `start`."""
    rest = size - len(start.encode())
    width = len(fill.encode())
    return start + "x" * (rest % width) + fill * (rest // width)


class Limits(Law):
    """At the limit it works; above it nothing is written and the error says by how much."""

    number = 11
    title = "Limits"

    @least(commits=0, loads=0)
    def test_the_declared_limits_are_no_less_than_the_least(self, harness: Harness) -> None:
        """Every limit is declared, and is no less than the least that any store may declare."""

        async def check() -> None:
            limits = (await harness.open()).limits
            harness.expect("the limits are a Limits", Declared.__name__, type(limits).__name__)
            harness.expect("every limit has its least", sorted(LEAST), sorted(field.name for field in fields(Declared)))
            for name, lowest in LEAST.items():
                declared = getattr(limits, name)
                harness.require(f"{name} is at least {lowest}", declared >= lowest, f"at least {lowest}", declared)

        harness.run(check)

    @least(commits=6, loads=6, deletions=2, lists=2)
    def test_ids_work_at_the_limit(self, harness: Harness) -> None:
        """Resource, thread and message ids of the most bytes together work, of one to four bytes a character, with NUL
        and with `%`. They are written, found, listed, deleted, and told apart though they differ in one character.
        """

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            size = harness.id_bytes
            for fill in filter(lambda fill: harness.takes(fill, ids=True), ("i", "é", "漢", "😀", "\x00", "%")):
                room = harness.fresh()
                long = [Thread(_id(size, room, fill), _id(size, start, fill)) for start in ("a", "b")]
                for scope in long:
                    made = [record(_id(size, start, fill), start) for start in ("c", "d")]
                    await one.commit(scope, appending(harness, START, *made, puts=(Put("info", "{}"),)))
                    await one.commit(Resource(scope.resource_id), Changes(at=START, puts=(Put("info", "{}"),)))
                    found = await two.load(scope, ALL)
                    harness.expect("messages of the longest ids", [tuple(m) for m in made], _given(found.records))
                    found = await two.load(scope, Window(made[1].id, after=1))
                    harness.expect("found by the longest id", [tuple(made[1])], _given(found.records))
                rows = await two.threads(Resource(long[0].resource_id))
                harness.expect("listed", sorted(scope.thread_id for scope in long), sorted(r.thread_id for r in rows))
                page = await two.resources(room, 1)
                harness.expect("listed", [long[0].resource_id], list(page))
                await one.delete(long[0])
                harness.expect("the other stays", 2, len((await two.load(long[1], ALL)).records))
                await one.delete(Resource(long[0].resource_id))

        harness.run(check)

    @least(commits=4, loads=4)
    def test_sizes_work_at_the_limit(self, harness: Harness) -> None:
        """The largest message and the largest document, in several encodings, a commit of the most messages, and the
        largest commits of few and of many messages come back whole.
        """

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            limits = one.limits
            for fill in ("x", "é", "😀", "\\\\"):
                scope = Thread(harness.fresh() + "r", "t")
                sent = raw_record("m", _body(limits.message_bytes, fill))
                await one.commit(scope, appending(harness, START, sent))
                await self._whole(harness, two, scope, [sent])
                body = _body(limits.working_memory_bytes, fill)
                changes = appending(
                    harness, START, puts=(Put("working_memory", body),), resource_puts=(Put("working_memory", body),)
                )
                await one.commit(scope, changes)
                found = await two.load(scope)
                for docs in (found.docs, found.resource_docs):
                    whole = docs["working_memory"].body == body
                    harness.require("the largest document is whole", whole, f"{len(body)} characters", "another body")
                # Megabytes are not left behind: a store may take its time in proportion to what it holds.
                await one.delete(Resource(scope.resource_id))
            scope = Thread(harness.fresh() + "r", "t")
            many = [record(f"m{number}") for number in range(limits.commit_messages)]
            await one.commit(scope, appending(harness, START, *many))
            await self._whole(harness, two, scope, many)
            again = await one.commit(scope, appending(harness, START, *many))
            harness.expect("all of them are known", list(range(1, len(many) + 1)), list(again.positions))
            scope = Thread(harness.fresh() + "r", "t")
            part = limits.commit_bytes // 4
            part = min(part, limits.message_bytes)
            count = limits.commit_bytes // part
            full = [raw_record(f"m{number}", _body(part)) for number in range(count)]
            rest = limits.commit_bytes - part * count
            if rest >= 2:
                full.append(raw_record("rest", _body(rest)))
            await one.commit(scope, appending(harness, START, *full))
            await self._whole(harness, two, scope, full)
            await one.delete(Resource(scope.resource_id))
            scope = Thread(harness.fresh() + "r", "t")
            await one.commit(scope, appending(harness, START, *_spread(limits)))
            await self._whole(harness, two, scope, _spread(limits))
            await one.delete(Resource(scope.resource_id))

        harness.run(check)

    def test_a_thread_of_many_mebibytes_reads_whole(self, harness: Harness) -> None:
        """A thread of many MiB, in messages of up to the largest, comes back whole in one load, in windows anywhere,
        and in its newest messages, and a small commit to it is as any other. No limit is declared on a whole thread.
        """

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            limits, scope = one.limits, Thread(harness.fresh() + "r", "t")
            most, sent = min(limits.message_bytes, limits.commit_bytes), list[Record]()
            total, drawn = 0, large.chance(harness)
            while total < harness.profile.mebibytes * MIB:
                width = drawn.choice((most, most, most // 2, most // 3, 1000))
                total += width
                sent.append(raw_record(f"m{len(sent)}", _body(width, drawn.choice(("x", "é", "\\\\")))))
                await one.commit(scope, appending(harness, START, sent[-1]))
            await self._whole(harness, two, scope, sent)
            at = len(sent) // 2
            found = (await two.load(scope, Window(sent[at].id, 1, 2))).records
            same = _given(found) == [tuple(made) for made in sent[at - 1 : at + 2]]
            harness.require("a window in the middle is whole", same, "three messages", f"{len(found)}, or another body")
            receipt = await two.commit(scope, appending(harness, START, sent[0], record("small")))
            harness.expect("it grows as any other", [1, len(sent) + 1], list(receipt.positions))
            # Megabytes are not left behind: a store may take its time in proportion to what it holds.
            await one.delete(Resource(scope.resource_id))

        large.run(harness, check)

    def test_many_documents_in_one_commit_are_all_written(self, harness: Harness) -> None:
        """Many small documents of a thread and of its resource are written in one commit, each read back, listed,
        counted in its own version and removed. No limit is declared on their number; some dozens are tried.
        """

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            scope, model = Thread(harness.fresh() + "r", "t"), Model()
            count = 30 + large.chance(harness).randrange(15)
            slots = [f"slot{number}" for number in range(count)]
            for turn, part in enumerate((slots, slots[::2], slots[::-1])):
                puts = tuple(Put(slot, None if turn == 1 else f"{turn}") for slot in part)
                changes = appending(harness, START, record(f"m{turn}"), puts=puts, resource_puts=puts[::-1])
                await agree(harness, one, model, "commit", scope, changes)
                await agree(harness, two, model, "load", scope, ALL)
                await agree(harness, two, model, "load", Resource(scope.resource_id))
                for order in ORDERS:
                    resource = Resource(scope.resource_id)
                    await agree(harness, two, model, "threads", resource, None, 10, order, tuple(slots))
            moved = tuple(Put(slot, "3", 2 + (slot not in slots[::2])) for slot in slots)
            refused = appending(harness, START, record("no"), puts=moved)
            await agree(harness, one, model, "commit", scope, refused)
            await agree(harness, two, model, "load", scope, ALL)

        harness.run(check)

    @least(loads=4, outages=True)
    def test_thousands_of_documents_in_one_commit_are_written_or_refused(self, harness: Harness) -> None:
        """A commit with thousands of small documents of a thread, of its resource, or of both, writes each of them. A
        store that has no room for so many refuses it with StoreFull or LimitExceeded, and nothing is written. Those
        of both are then put again at their versions.
        """

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            puts = tuple(
                Put(f"slot{number}", f"{number}") for number in range(large.size(harness, 2 * harness.profile.records))
            )
            for times, of_thread, of_resource in ((1, puts, ()), (1, (), puts), (2, puts, puts)):
                scope, model = Thread(harness.fresh() + "r", "t"), Model()
                for version in range(times):
                    changes = appending(
                        harness,
                        START,
                        record(f"m{version}"),
                        puts=tuple(put._replace(if_version=version) for put in of_thread),
                        resource_puts=tuple(put._replace(if_version=version) for put in of_resource),
                    )
                    try:
                        await one.commit(scope, changes)
                        model.commit(scope, changes)
                    except (StoreFull, LimitExceeded):
                        changes = appending(harness, START, record(f"m{version}"))
                        await agree(harness, one, model, "commit", scope, changes)
                    seen, expected = plain(await two.load(scope, ALL)), plain(model.load(scope, ALL))
                    harness.require(
                        f"a commit of {len(of_thread)} documents of a thread and {len(of_resource)} of its resource "
                        "writes all of them, or is refused and writes nothing",
                        seen == expected,
                        "what the reference model has",
                        "something else",
                    )
                await one.delete(Resource(scope.resource_id))

        large.run(harness, check)

    async def _whole(self, harness: Harness, handle: Recorded, scope: Thread, sent: list[Record]) -> None:
        found = (await handle.load(scope, ALL)).records
        harness.expect("every message is there", [made.id for made in sent], [entry.id for entry in found])
        for made, entry in zip(sent, found, strict=True):
            same = (made.digest, made.body) == (entry.digest, entry.body)
            harness.require(
                f"message {made.id} is whole",
                same,
                f"{len(made.body)} characters",
                f"{len(entry.body)} characters, or others",
            )

    @least(loads=4)
    def test_above_the_limit_nothing_is_written(self, harness: Harness) -> None:
        """One byte, or one message, above each limit, the error names the limit, the allowed and the given size, and
        the thread is as before or still missing.
        """

        async def check() -> None:
            handle = await harness.open()
            limits = handle.limits
            room = harness.fresh()
            good = record("good")
            large = raw_record("large", _body(limits.message_bytes + 1))
            many = [record(f"m{number}") for number in range(limits.commit_messages + 1)]
            part = min(limits.message_bytes, limits.commit_bytes // 2)
            count = limits.commit_bytes // part
            heavy = [raw_record(f"m{number}", _body(part)) for number in range(count)]
            heavy.append(raw_record("rest", _body(limits.commit_bytes - part * count + 2)))
            over = sum(len(made.body) for made in heavy)
            document = Put("working_memory", _body(limits.working_memory_bytes + 1))
            long = _id(harness.id_bytes + 1, "m", "i")
            cases: list[tuple[str, int, Changes]] = [
                ("message_bytes", limits.message_bytes + 1, appending(harness, START, good, large)),
                ("commit_messages", limits.commit_messages + 1, appending(harness, START, *many)),
                ("commit_bytes", over, appending(harness, START, *heavy)),
                (
                    "working_memory_bytes",
                    limits.working_memory_bytes + 1,
                    appending(harness, START, good, puts=(document,)),
                ),
                (
                    "working_memory_bytes",
                    limits.working_memory_bytes + 1,
                    appending(harness, START, good, resource_puts=(document,)),
                ),
                ("id_bytes", harness.id_bytes + 1, appending(harness, START, good, record(long))),
            ]
            for there in (False, True):
                scope = Thread(f"{room}r{there}", "t")
                if there:
                    await handle.commit(scope, appending(harness, START, record("first"), puts=(Put("info", "1"),)))
                before = await handle.load(scope, ALL)
                for limit, given, changes in cases:
                    harness.history.clear()
                    error = await _exceeded(harness, handle.commit(scope, changes))
                    allowed = harness.id_bytes if limit == "id_bytes" else getattr(limits, limit)
                    harness.expect(
                        "the error names limit, allowed and given",
                        (limit, allowed, given),
                        (error.limit, error.allowed, error.given),
                    )
                    harness.expect("nothing was written", before, await handle.load(scope, ALL))
            for resource_id, thread_id in ((_id(harness.id_bytes + 1, room), "t"), (room + "r", long)):
                scope = Thread(resource_id, thread_id)
                calls: list[Callable[[Thread], Awaitable[object]]] = [
                    handle.load,
                    handle.delete,
                    lambda scope: handle.commit(scope, appending(harness, START, good)),
                ]
                for call in calls:
                    error = await _exceeded(harness, call(scope))
                    harness.expect(
                        "the error names id_bytes", ("id_bytes", harness.id_bytes + 1), (error.limit, error.given)
                    )

        harness.run(check)

    @least(commits=4, loads=4)
    def test_limits_through_the_handles(self, harness: Harness) -> None:
        """Title, metadata, working memory and messages are kept at their limit through the handles and refused one byte
        above it, measured in bytes of UTF-8.
        """

        async def check() -> None:
            memory = Memory(await harness.open())
            limits = memory.store.limits
            resource = memory.resource(harness.fresh() + "r")
            thread = await resource.create_thread("t")
            for fill in ("x", "é"):
                title = _body(limits.title_bytes + 2, fill)[1:-1]
                harness.expect("the longest title", title, (await thread.rename(title)).title)
                await _exceeded(harness, thread.rename(title + "x"))
                value = _body(limits.metadata_bytes - len('{"k":}'), fill)[1:-1]
                info = await thread.set_metadata({"k": value})
                harness.require("the largest metadata", info.metadata == {"k": value}, "as set", "another")
                error = await _exceeded(harness, thread.set_metadata({"k": value + "x"}))
                harness.expect("metadata_bytes is exceeded by one", limits.metadata_bytes + 1, error.given)
                kept = await thread.info()
                harness.require("nothing was written", kept.metadata == {"k": value}, "as before", "another")
                value = _body(limits.working_memory_bytes, fill)[1:-1]
                for holder in (thread.working_memory, resource.working_memory):
                    await holder.put(value)
                    error = await _exceeded(harness, holder.put(value + "x"))
                    harness.expect("working_memory_bytes", limits.working_memory_bytes + 1, error.given)
                    harness.require("nothing was written", (await holder.get()).value == value, "as before", "another")
            blank = Message.user("", id="m")
            await thread.append(blank)
            overhead = len((await memory.store.load(Thread(resource.resource_id, "t"), ALL)).records[0].body)
            await thread.drop_from("m")
            await thread.append(Message.user("x" * (limits.message_bytes - overhead), id="m"))
            await _exceeded(harness, thread.append(Message.user("x" * (limits.message_bytes - overhead + 1), id="n")))
            harness.expect("only the one at the limit is kept", ["m"], [each.id for each in await thread.messages()])
            await resource.erase()

        harness.run(check)


def _spread(limits: Declared) -> list[Record]:
    """As many messages as a commit takes, together about as large as a commit may be."""
    size = min(limits.message_bytes, limits.commit_bytes // limits.commit_messages)
    return [raw_record(f"m{number}", _body(size)) for number in range(limits.commit_messages)]


def _given(records: Sequence[Stored]) -> list[tuple[str, ...]]:
    return [tuple(entry[2:]) for entry in records]


async def _exceeded(harness: Harness, work: Awaitable[object]) -> LimitExceeded:
    return await harness.refused("above the limit it is LimitExceeded", LimitExceeded, work)
