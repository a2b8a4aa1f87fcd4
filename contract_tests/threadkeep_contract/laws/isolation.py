"""Law 1: isolation.

Run any interleaving of operations over many scopes. What each scope observes (results, errors, lists, cursors, counts)
is exactly what it would have observed had only its own operations run. A scope is the pair (resource_id, thread_id);
resource working memory belongs to the resource.

- `thread_id` is unique within its resource, no further. Two resources with the same thread id have two threads, and
  neither can tell that the other exists. A foreign thread looks like a missing one, to the letter.
- No verb takes a thread without its resource. There is no optional resource, and no default one.
- Ids are opaque, compared code point by code point: no trimming, case folding, normalising, number parsing, separator
  splitting, and no pattern of any kind.
- A cursor works in the scope and query that it came from, and is refused with `InvalidCursor` elsewhere.
- Administration across resources is an object of its own, `memory.admin`, which has to be asked for by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from hypothesis import strategies as st

from threadkeep.errors import InvalidCursor, InvalidId, MessageConflict, TailMoved, ThreadNotFound, VersionMoved
from threadkeep.handles import Memory
from threadkeep.port import Changes, Put, Resource, Scope, Snapshot, Tail, Thread, Window
from threadkeep_contract.evidence import least
from threadkeep_contract.harness import ALL, Harness, Law, appending, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.identity import drawn_ids
from threadkeep_contract.inputs.confusable import PAIRS, PREFIX, Spot, just_before
from threadkeep_contract.inputs.operations import (
    EVERYTHING,
    Commit,
    Delete,
    Erase,
    List,
    Load,
    LoadResource,
    Operation,
    Program,
    PutResource,
    SlotPut,
    programs,
)
from threadkeep_contract.reference.beside import ORDERS, agree
from threadkeep_contract.reference.machine import START, imagine, observe
from threadkeep_contract.reference.model import Model
from threadkeep_contract.reference.overlap import Overlap, overlaps, play_overlapping


def _of_resource(program: Program, resource_id: str) -> set[int]:
    """The operations of a resource and its threads, by number."""
    return {
        number
        for number, operation in enumerate(program.operations)
        if program.pool[operation.spot].resource_id == resource_id
    }


def _of_thread(program: Program, spot: int) -> set[int]:
    """The operations on one thread, and on its resource's own documents, by number."""
    mine = program.pool[spot].resource_id
    return {
        number
        for number, operation in enumerate(program.operations)
        if (operation.spot == spot and not isinstance(operation, List))
        or (
            isinstance(operation, PutResource | LoadResource | Erase)
            and program.pool[operation.spot].resource_id == mine
        )
    }


async def interfere(
    harness: Harness, program: Program, parts: Sequence[set[int]], what: str, spare: bool = False
) -> None:
    """Play a program, then each part of it alone in another clean room; LawBroken where one observed a difference.

    With `spare`, a part that observed just what the model says it observes alone is not played a second time.
    """
    handles = await harness.reused(2)
    together = await observe(harness, handles, program, set(range(len(program.operations))))
    for part in parts:
        if len(part) == len(program.operations):
            continue
        if spare and imagine(program, part) == {number: together[number] for number in part}:
            continue
        alone = await observe(harness, handles, program, part)
        for number in sorted(part):
            if together[number] != alone[number]:
                raise harness.broken(
                    f"{what} observes what it would have observed alone", alone[number], together[number]
                )


def _meeting(program_of_two: tuple[Spot, Spot]) -> Program:
    """Everything that two scopes can do beside each other, once."""
    put = (SlotPut(1, f'{{"in":"{PREFIX}"}}', None),)

    def first(spot: int) -> list[Operation]:
        other = 1 - spot
        return [
            Commit(spot, 0, append=((0, spot), (1, spot)), puts=put),
            Load(other, 1, before=9),
            PutResource(spot, 1, puts=put),
            LoadResource(other, 0),
            List(other, 1),
        ]

    def then(spot: int) -> list[Operation]:
        other = 1 - spot
        return [
            Commit(spot, 0, append=((2, 0), (3, spot)), later=1, if_tail="now", drop=1, puts=(SlotPut(1, "[]", 0),)),
            Load(spot, 1, message=0, before=9, after=9),
            Load(other, 1, message=2, before=9, after=9),
            Load(other, 0, message=1, before=9, after=9),
            Load(other, 1, back=1, before=9, after=9),
            List(other, 0, order="active"),
        ]

    operations = [
        *(*first(0), *first(1), *then(0), *then(1)),
        *(Delete(0, 0), Load(1, 0, before=9), List(1, 1), LoadResource(1, 0)),
        *(Commit(0, 1, append=((3, 0),), puts=put), Load(0, 0, before=9), Load(1, 1, before=9)),
        *(Erase(0, 1), Load(1, 0, before=9), LoadResource(1, 1), List(1, 0)),
        *(Commit(1, 0, append=((2, 1),), if_tail="now"), Load(0, 0, before=9), List(0, 1)),
    ]
    return Program(program_of_two, tuple(operations))


class Isolation(Law):
    """What a scope observes does not depend on any other scope."""

    number = 1
    title = "Isolation"

    @least(commits=40, loads=80, deletions=10, lists=20)
    def test_confusable_scopes_do_not_meet(self, harness: Harness) -> None:
        """Each of two scopes that a careless store takes for one observes what it observes alone. A catalogue of
        several hundred pairs is tried: ids joined by any of many separators, escaped or not, in the scope and between
        thread and message; derived keys (`x` and `x:messages`); letter case, trimming, numbers, normal forms, encodings
        with loss, prefixes, LIKE, globs, regular expressions, operators and paths, marks that do not show, ids that are
        cut, blank ids. Each pair goes through every verb, interleaved. What each scope observed is compared with what
        the reference model says it observes alone, and where that differs, with what it does observe alone in another
        clean room.
        """
        for pair in harness.some(PAIRS, kind=lambda pair: pair.kind):
            harness.history.clear()
            program = _meeting((pair.first, pair.second))
            if pair.first.resource_id == pair.second.resource_id:
                parts = [_of_thread(program, 0), _of_thread(program, 1)]
            else:
                parts = [_of_resource(program, spot.resource_id) for spot in (pair.first, pair.second)]
            harness.run(interfere, harness, program, parts, f"each of two scopes ({pair.carelessness})", True)

    def test_ids_that_differ_anywhere_do_not_meet(self, harness: Harness) -> None:
        """Resources, or threads of one resource, whose ids are alike but for one place do not meet, wherever that place
        is and whatever the difference: a letter case, a normal form, a mark that does not show, white space, a NUL, a
        digit, a separator, one bit of one byte. Families of some forty ids of 1 to 512 bytes are drawn. All of a family
        are written, written again, read, listed, and some deleted, and every answer is compared with the reference
        model's.
        """
        drawn = st.tuples(st.sampled_from(("threads", "resources")), drawn_ids(harness, less=len(harness.fresh())))

        async def check(case: tuple[str, tuple[str, ...]]) -> None:
            what, ids = case
            handles = await harness.reused(2)
            room, model = harness.fresh(), Model()
            scopes = [Thread(room, each) if what == "threads" else Thread(room + each, "t") for each in ids]
            resources = list(dict.fromkeys(Resource(scope.resource_id) for scope in scopes))

            async def look() -> None:
                for scope in scopes:
                    await agree(harness, handles[1], model, "load", scope, ALL)
                for resource, order in product(resources, ORDERS):
                    await agree(harness, handles[0], model, "threads", resource, None, 1000, order, ("info",))
                page = await handles[0].resources(just_before(room), 1000)
                listed = [resource_id for resource_id in page if resource_id.startswith(room)]
                harness.expect("every resource is listed, by code point", model.resources(limit=1000), listed)

            for turn in range(2):
                for number, scope in enumerate(scopes):
                    text = f"{number} in {room}"
                    puts = (Put("info", f"{number}", turn),)
                    fields = {"puts": puts, "resource_puts": puts if what == "resources" else ()}
                    changes = appending(harness, START + number * turn, record(f"m{turn}", text), **fields)
                    await agree(harness, handles[0], model, "commit", scope, changes)
            await look()
            for scope in scopes[::3]:
                gone = scope if what == "threads" else Resource(scope.resource_id)
                await agree(harness, handles[1], model, "delete", gone)
            await look()

        harness.explore(drawn, check, share=0.3)

    @least(commits=5, loads=5)
    def test_a_resource_observes_only_its_own_operations(self, harness: Harness) -> None:
        """A resource observes only its own operations. Random interleavings run over small pools of confusable scopes.
        Then each resource's part is played again alone, on the same store, and every observation is compared: results,
        lists, and errors with their texts. Epochs and the clean room's prefix are left out of the comparison. Contents
        name their clean room, so that what leaks out of an earlier room is seen as well.
        """

        async def check(program: Program) -> None:
            resources = sorted({spot.resource_id for spot in program.pool})
            parts = [_of_resource(program, resource_id) for resource_id in resources]
            await interfere(harness, program, parts, "a resource")

        harness.explore(programs(EVERYTHING, harness.profile.steps), check)

    @least(commits=5, loads=5)
    def test_a_thread_observes_only_its_own_operations(self, harness: Harness) -> None:
        """A thread observes only the operations on itself and on its resource's documents. Random interleavings run
        over confusable threads, also of one resource, and each thread's part is played again alone and compared.
        """

        async def check(program: Program) -> None:
            parts = [_of_thread(program, spot) for spot in range(len(program.pool))]
            await interfere(harness, _without_resource_puts(program), parts, "a thread")

        harness.explore(programs(EVERYTHING, harness.profile.steps), check)

    def test_resources_that_are_used_at_once_do_not_meet(self, harness: Harness) -> None:
        """What runs for one resource neither sees nor suffers what runs at the same time for others. Random programs
        are played by a task for each of two to eight resources. All share one or two handles, have the same thread ids
        and message ids, or are confusable. They take each step at one moment, or let each other pass in several ways,
        or work while others read without a rest. Where a task reads several times in a row, it may make the reads at
        once. Loads, commits, truncations, deletions, erasures, and lists of other limits, slots and orders are under
        way together, and in the end all read the same at once. Every result and every error, with its text, has to be
        what the reference model answers the task alone, and contents name their resource. Then all views of each
        resource are compared with the model, and `memory.admin` lists the resources that are left, and no other.
        """
        left: set[str] = set()

        async def check(overlap: Overlap) -> None:
            left.update(await play_overlapping(harness, overlap))

        async def listed() -> list[str]:
            (handle,) = await harness.reused(1)
            return [name async for name in Memory(handle).admin.resources() if harness.token in name]

        harness.explore(overlaps(2 * harness.profile.steps), check)
        harness.history.clear()
        harness.expect("memory.admin lists the resources that are left", sorted(left), harness.run(listed))

    @least(loads=8)
    def test_a_foreign_thread_looks_like_a_missing_one(self, harness: Harness) -> None:
        """Another resource's thread looks like a thread that never was: loads, refused commits with the texts of their
        errors, and the handle's `ThreadNotFound` are equal for both.
        """

        async def look(handle: Recorded, scope: Thread) -> list[Any]:
            changes: list[Changes] = [
                Changes(at=START, epoch="e", append=(record("m9"),), if_tail=Tail("x", 1)),
                Changes(at=START, epoch="e", append=(record("m9"),), if_epoch="x"),
                Changes(at=START, epoch="e", puts=(Put("info", "{}", 1),)),
                Changes(at=START, epoch="e", drop_after=0, if_tail=Tail("x", 2)),
            ]
            seen: list[Any] = [
                _plain(await handle.load(scope, window))
                for window in (Window(None, 9), Window("m1", 9, 9), Window(1, 9, 9))
            ]
            for change in changes:
                try:
                    seen.append(await handle.commit(scope, change))
                except (TailMoved, VersionMoved, MessageConflict) as error:
                    seen.append((type(error), error.args, str(error)))
            thread = Memory(handle).resource(scope.resource_id).thread(scope.thread_id, read_only=True)
            seen.append(str(await harness.refused("a read-only look finds no thread", ThreadNotFound, thread.load())))
            return seen

        async def check() -> None:
            handle = await harness.open()
            room = harness.fresh()
            theirs = Thread(room + "theirs", "t")
            await handle.commit(
                theirs, appending(harness, START, record("m1"), record("m2"), puts=(Put("info", "{}"),))
            )
            nothing, moved = Snapshot(), (TailMoved, ("", 0), str(TailMoved("", 0)))
            unversioned = (VersionMoved, ("info", 0), str(VersionMoved("info", 0)))
            expected = [nothing, nothing, nothing, moved, moved, unversioned, moved]
            foreign = await look(handle, Thread(room + "mine", "t"))
            missing = await look(handle, Thread(harness.fresh() + "mine", "t"))
            harness.expect("a foreign thread looks like a missing one, to the letter", missing, foreign)
            harness.expect("a missing thread is empty, and has no tail or version", expected, foreign[: len(expected)])

        harness.run(check)

    @least(commits=0, loads=0, lists=1)
    def test_there_is_no_default_resource(self, harness: Harness) -> None:
        """Every verb refuses, with `InvalidId`, a scope whose resource id or thread id is missing, empty or no string,
        and writes nothing.
        """

        async def check() -> None:
            handle = await harness.open()
            room = harness.fresh()
            wrong: list[Any] = [None, "", 0, b"x", False, ("a",)]
            scopes: list[Scope] = [Resource(value) for value in wrong]
            scopes += [Thread(value, "t") for value in wrong] + [Thread(room, value) for value in wrong]
            for scope in scopes:
                promise = "a scope without its id is refused"
                await harness.refused(promise, InvalidId, handle.load(scope))
                await harness.refused(promise, InvalidId, handle.delete(scope))
                await harness.refused(promise, InvalidId, handle.commit(scope, Changes(at=START, epoch="e")))
                if isinstance(scope, Resource):
                    await harness.refused(promise, InvalidId, handle.threads(scope))
            harness.expect("what was refused left nothing", [], list(await handle.threads(Resource(room))))

        harness.run(check)

    @least(commits=6, loads=0, lists=2)
    def test_cursors_are_refused_elsewhere(self, harness: Harness) -> None:
        """A cursor of one resource's list of threads works in that list alone. It is given to another resource, to
        another order, to other filters and to the list of resources, and cursors are forged by hand: each is refused
        with `InvalidCursor`.
        """

        async def check() -> None:
            memory = Memory(await harness.open())
            room = harness.fresh()
            alice, bob = memory.resource(room + "alice"), memory.resource(room + "bob")
            for owner in (alice, bob):
                for name in ("one", "two", "three"):
                    await owner.create_thread(name)
            page = await alice.threads_page(limit=1)
            promise = "a cursor is refused in another scope or query"
            cursor = page.cursor
            harness.require("a page that is not the last has a cursor", cursor is not None, "a cursor", page)
            harness.expect(
                "a cursor works where it came from",
                ["three", "two"],
                sorted(info.thread_id for info in (await alice.threads_page(cursor=cursor)).items),
            )
            await harness.refused(promise, InvalidCursor, bob.threads_page(cursor=cursor))
            await harness.refused(promise, InvalidCursor, alice.threads_page(cursor=cursor, order="active"))
            await harness.refused(promise, InvalidCursor, alice.threads_page(cursor=cursor, archived=False))
            await harness.refused(promise, InvalidCursor, alice.threads_page(cursor=cursor, metadata={"a": 1}))
            await harness.refused(promise, InvalidCursor, memory.admin.resources_page(cursor=cursor))
            good = cursor or ""
            for forged in ("", "x", good[:-4], f"{good}AAAA", "W10", "bnVsbA"):
                await harness.refused(
                    "a cursor that was made by hand is refused", InvalidCursor, alice.threads_page(cursor=forged)
                )

        harness.run(check)


def _plain(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, records=tuple(snapshot.records), docs=dict(snapshot.docs))


def _without_resource_puts(program: Program) -> Program:
    """Commits to a thread that put resource documents would be operations of two scopes; they put none here."""
    operations = tuple(
        replace(operation, resource_puts=()) if isinstance(operation, Commit) else operation
        for operation in program.operations
    )
    return Program(program.pool, operations)
