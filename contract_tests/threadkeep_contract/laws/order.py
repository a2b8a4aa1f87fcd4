"""Law 3: order.

The store gives each message a position: an integer, strictly increasing in its thread, never given twice in one epoch,
not even after truncation. Order never comes from a clock: equal, missing or backward timestamps change nothing.
Messages of one append are adjacent and in the order given. A reader that has seen position p never later finds a new
message below p.
"""

from __future__ import annotations

import asyncio

from threadkeep.port import Changes, Receipt, Stored, Thread, Window
from threadkeep_contract import large
from threadkeep_contract.evidence import least
from threadkeep_contract.faults import clocks
from threadkeep_contract.harness import ALL, Harness, Law, appending, record
from threadkeep_contract.inputs.confusable import one_thread
from threadkeep_contract.inputs.operations import Program, programs
from threadkeep_contract.races.restarts import through_restarts
from threadkeep_contract.reference.beside import Given
from threadkeep_contract.reference.machine import START, compare


def _increasing(harness: Harness, records: list[Stored]) -> None:
    positions = [entry.position for entry in records]
    harness.require(
        "positions are integers", all(type(position) is int for position in positions), "integers", repr(positions)
    )
    harness.require(
        "positions strictly increase", positions == sorted(set(positions)), "each larger than the one before", positions
    )


class Order(Law):
    """Positions are the order, and only the store gives them."""

    number = 3
    title = "Order"

    @least(commits=10, loads=5)
    def test_order_never_comes_from_a_clock(self, harness: Harness) -> None:
        """Commits whose times are equal, go back or jump keep the order in which they were made, with ids that sort
        otherwise. The whole thread, its newest three messages and its tail are looked at.
        """

        async def check() -> None:
            handles = [await harness.open(), await harness.open()]
            times = [0, 0, 10, 5, 5, -7_000_000, 1, 10**12, 3, 3, -1, 0]
            for name, offsets in (
                ("as it comes", times),
                ("backward", sorted(times, reverse=True)),
                ("equal", [0] * 12),
            ):
                scope = Thread(harness.fresh() + "r", "t")
                # Ids that sort otherwise than the appends do, so that no order by id looks right.
                ids = [f"{'zyxaw'[number % 5]}{number}" for number in range(len(offsets))]
                for number, (message_id, offset) in enumerate(zip(ids, offsets, strict=True)):
                    await handles[number % 2].commit(scope, appending(harness, START + offset, record(message_id)))
                found = list((await handles[0].load(scope, ALL)).records)
                _increasing(harness, found)
                harness.expect(f"the order of the appends (clock: {name})", ids, [entry.id for entry in found])
                newest = await handles[1].load(scope, Window(before=3))
                harness.expect(f"the newest three (clock: {name})", ids[-3:], [entry.id for entry in newest.records])
                harness.expect(f"the tail is the last append (clock: {name})", found[-1].position, newest.tail.position)

        harness.run(check)

    @least(commits=5, loads=5)
    def test_positions_rise_when_the_clock_jumps(self, harness: Harness) -> None:
        """The clock of the store's process is set forward and back by days and years between commits: positions go on
        rising, and the thread is read in the order in which it was written, by every window.
        """
        with clocks.of_process() as move:
            harness.run(clocks.agree, harness, move, clocks.appends)

    @least(commits=4)
    def test_one_append_is_adjacent_and_in_order(self, harness: Harness) -> None:
        """The messages of one append lie together, in the order given. Tasks on two handles append batches at the same
        time; each batch is adjacent, whatever its ids are, and at the positions that its receipt gives.
        """

        async def check() -> None:
            handles = [await harness.open(), await harness.open()]
            for _ in range(max(2, harness.profile.rounds // 2)):
                harness.history.clear()
                scope = Thread(harness.fresh() + "r", "t")
                batches = [[f"{letter}{writer}" for letter in "zambq"] for writer in range(harness.profile.tasks)]
                receipts = await asyncio.gather(
                    *[
                        handles[writer % 2].commit(scope, appending(harness, START - writer, *map(record, batch)))
                        for writer, batch in enumerate(batches)
                    ]
                )
                found = list((await handles[0].load(scope, ALL)).records)
                _increasing(harness, found)
                ids = [entry.id for entry in found]
                harness.expect(
                    "every message once", sorted(message_id for batch in batches for message_id in batch), sorted(ids)
                )
                for batch, receipt in zip(batches, receipts, strict=True):
                    place = ids.index(batch[0])
                    harness.expect("a batch is adjacent and in order", batch, ids[place : place + len(batch)])
                    positions = [entry.position for entry in found[place : place + len(batch)]]
                    harness.expect("a receipt gives the positions", positions, list(receipt.positions))

        harness.run(check)

    @least(commits=3)
    def test_positions_are_never_given_twice(self, harness: Harness) -> None:
        """Every position is larger than all that were given before in its epoch. This is tried after truncations of
        one, some and all messages, alone and in the same commit as an append.
        """

        async def check() -> None:
            handles = [await harness.open(), await harness.open()]
            scope = Thread(harness.fresh() + "r", "t")
            given: dict[int, str] = {}
            largest = 0

            async def commit(*ids: str, drop_after: int | None = None) -> Receipt:
                nonlocal largest
                changes = appending(harness, START, *map(record, ids), drop_after=drop_after)
                receipt = await handles[len(given) % 2].commit(scope, changes)
                for message_id, position in zip(ids, receipt.positions, strict=True):
                    harness.require(
                        "a position is larger than all that were given before",
                        position > largest,
                        f"more than {largest}",
                        f"{position} for {message_id}, given before to {given.get(position)}",
                    )
                    given[position] = message_id
                    largest = position
                return receipt

            first = await commit("a", "b", "c", "d")
            await commit(drop_after=first.positions[2])
            await commit("e")
            await commit("d", "b2", drop_after=first.positions[0])
            await commit(drop_after=0)
            await commit("a", "b")
            await commit("c", drop_after=0)
            await commit("f")
            await commit("f", drop_after=largest - 1)
            found = list((await handles[0].load(scope, ALL)).records)
            _increasing(harness, found)
            harness.expect("what is left", [(largest - 2, "c"), (largest, "f")], [(e.position, e.id) for e in found])

        harness.run(check)

    @least(commits=3)
    def test_what_stays_keeps_its_position(self, harness: Harness) -> None:
        """What stays in a thread keeps its position, time and body when messages are appended or dropped behind it."""

        async def check() -> None:
            handle = await harness.open()
            scope = Thread(harness.fresh() + "r", "t")
            await handle.commit(scope, appending(harness, START, *[record(f"m{number}") for number in range(6)]))
            before = list((await handle.load(scope, ALL)).records)
            await handle.commit(scope, Changes(at=START - 5, epoch=harness.epoch(), drop_after=before[3].position))
            harness.expect("what stays", before[:4], list((await handle.load(scope, ALL)).records))
            await handle.commit(scope, appending(harness, START - 9, record("a"), drop_after=before[2].position))
            found = list((await handle.load(scope, ALL)).records)
            harness.expect("what stays, beside an append", before[:3], found[:3])
            harness.expect("and the new one", ["a"], [entry.id for entry in found[3:]])

        harness.run(check)

    def test_positions_go_on_after_a_very_long_truncation(self, harness: Harness) -> None:
        """A truncation of thousands of messages leaves every message below it in its place. Those that are appended
        then, with ids that were dropped, get the positions after the largest ever given, and the thread can be dropped
        once more, to nothing.
        """

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            scope, drawn = Thread(harness.fresh() + "r", "t"), large.chance(harness)
            made = await large.long_thread(harness, one, scope, harness.profile.positions + drawn.randrange(1000))
            kept = drawn.randrange(1, len(made) // 20)
            again = drawn.sample(made[kept:], large.BATCH - 1)
            receipt = await two.commit(scope, appending(harness, START, *again, drop_after=kept))
            given = [len(made) + 1 + number for number in range(len(again))]
            harness.expect("positions go on after the largest ever given", given, list(receipt.positions))
            expected = [*range(1, kept + 1), *given]
            seen = (await one.load(scope, ALL)).records
            harness.expect("what stays keeps its position", expected, [entry.position for entry in seen])
            ids = [entry.id for entry in (*made[:kept], *again)]
            harness.expect("what was dropped is gone", ids, [entry.id for entry in seen])
            gone = made[-1] if made[-1] not in again else made[-2]
            if gone not in again:
                found = (await one.load(scope, Window(gone.id, 5, 5))).records
                harness.expect("no window is anchored at what was dropped", [], list(found))
            receipt = await one.commit(scope, appending(harness, START, record("new"), drop_after=0))
            harness.expect("after everything was dropped", [given[-1] + 1], list(receipt.positions))
            harness.expect("after everything was dropped", 1, len((await two.load(scope, ALL)).records))

        large.run(harness, check)

    def test_positions_go_on_after_a_restart(self, harness: Harness) -> None:
        """Who opens a place anew gives positions after the largest ever given, though the message that had it was
        dropped: with a new handle after all others were closed, where the store keeps what it has then, and in a new
        process. Clauses `processes`, `durability`.
        """

        def stage(scope: Thread, number: int) -> list[Given]:
            append = appending(harness, START, record(f"a{number}"), record(f"b{number}"))
            return [
                Given("load", (scope, ALL)),
                Given("commit", (scope, append)),
                Given("commit", (scope, appending(harness, START, drop_after=number))),
                Given("load", (scope, ALL)),
            ]

        through_restarts(harness, lambda resource, number: stage(Thread(resource.resource_id, "t"), number))

    @least(commits=20, loads=20)
    def test_a_reader_finds_nothing_new_below_what_it_saw(self, harness: Harness) -> None:
        """A reader that follows a thread by position misses nothing. Two readers follow while tasks write, with clocks
        that go back; at the end each has exactly what is there, in order.
        """

        async def check() -> None:
            handles = [await harness.open(), await harness.open()]
            scope = Thread(harness.fresh() + "r", "t")
            writing = True

            async def write(writer: int) -> None:
                for number in range(10):
                    made = [record(f"{writer}.{number}.{part}") for part in range(1 + number % 3)]
                    await handles[writer % 2].commit(scope, appending(harness, START - number, *made))
                    await asyncio.sleep(0)

            async def follow(reader: int) -> list[Stored]:
                seen: list[Stored] = []
                while True:
                    done = not writing
                    position = seen[-1].position if seen else 0
                    page = await handles[reader % 2].load(scope, Window(position + 1, after=4))
                    seen += page.records
                    if done and not page.records:
                        return seen
                    await asyncio.sleep(0)

            readers = [asyncio.create_task(follow(reader)) for reader in range(2)]
            await asyncio.gather(*[write(writer) for writer in range(4)])
            writing = False
            stored = list((await handles[0].load(scope, ALL)).records)
            for reader in readers:
                harness.expect("a follower saw every message, in order", stored, await reader)

        for _ in range(max(2, harness.profile.rounds // 5)):
            harness.history.clear()
            harness.run(check)

    @least(commits=5, loads=5)
    def test_programs_of_appends_and_drops_answer_as_the_model(self, harness: Harness) -> None:
        """Random appends and truncations with wild clocks, through two handles, are answered as by the reference
        model.
        """

        async def check(program: Program) -> None:
            await compare(harness, program)

        harness.explore(programs(("append", "drop"), harness.profile.steps, one_thread()), check)
        harness.explore(programs(("append", "drop", "conditions", "load"), harness.profile.steps), check, share=0.5)
