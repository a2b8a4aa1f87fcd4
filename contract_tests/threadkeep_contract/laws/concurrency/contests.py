"""What contenders race for in the checks of law 5, and what has to come of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from threadkeep.errors import Conflict, MessageConflict, TailMoved, VersionMoved
from threadkeep.port import MISSING, Changes, Put, Receipt, Resource, Snapshot, Tail, Thread, Window
from threadkeep_contract.harness import ALL, Harness, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.processes.worker import Chain, Open, Outcome, Patch, Run, Step
from threadkeep_contract.races.contenders import Team, committing, told
from threadkeep_contract.reference.looks import look_everywhere

IDS: Final = ("old0", "old3", "same", "0-a", "1-b", "0/0/0")
"""Ids of some messages that contenders append, or fail to."""


def _thread(harness: Harness) -> Thread:
    """A new thread. The history of a race begins anew with it."""
    harness.history.clear()
    return Thread(harness.fresh() + "user", "thread")


def _changes(harness: Harness, at: int, writer: int, **conditions: Any) -> Changes:
    """What a contender commits: two messages and a document in either place, all of which carry its number."""
    body = json.dumps(writer)
    fields: dict[str, Any] = {
        "append": (record(f"{writer}-a"), record(f"{writer}-b")),
        "puts": (Put("work", body),),
        "resource_puts": (Put("work", body),),
        **conditions,
    }
    return Changes(at, harness.epoch(), **fields)


async def _prepare(harness: Harness, handle: Recorded, thread: Thread, turn: int) -> Snapshot:
    """Bring a new thread into one of four states: missing, with messages, emptied, deleted and made again."""
    match ("missing", "with messages", "emptied", "made again")[turn % 4]:
        case "with messages":
            await handle.commit(thread, Changes(1, harness.epoch(), (record("old0"), record("old1"))))
        case "emptied":
            await handle.commit(thread, Changes(1, harness.epoch(), (record("old0"), record("old1"))))
            await handle.commit(thread, Changes(2, harness.epoch(), drop_after=0))
        case "made again":
            await handle.commit(thread, Changes(1, harness.epoch(), (record("old0"),)))
            await handle.delete(thread)
            await handle.commit(thread, Changes(2, harness.epoch(), (record("old2"),)))
    return await handle.load(thread, ALL)


def _the_winner(harness: Harness, promise: str, outcomes: Sequence[Outcome]) -> int:
    """The index of the one outcome that is a receipt."""
    won = [index for index, outcome in enumerate(outcomes) if outcome.receipt is not None]
    harness.require(promise, len(won) == 1, "one that succeeds", f"{len(won)} that do:\n            {told(outcomes)}")
    return won[0]


def _receipt(harness: Harness, promise: str, outcome: Outcome) -> Receipt:
    """The receipt of an outcome that has to be one."""
    if outcome.receipt is None:
        raise harness.broken(promise, "a receipt", told([outcome]))
    return outcome.receipt


async def one_tail(harness: Harness, handle: Recorded, team: Team) -> None:
    """Many commits on one tail."""
    promise = "of racing commits with one if_tail exactly one wins, and the others write nothing"
    for turn in range(team.rounds):
        thread = _thread(harness)
        before = await _prepare(harness, handle, thread, turn)
        orders = [committing(thread, _changes(harness, 3, writer, if_tail=before.tail)) for writer in range(team.size)]
        outcomes = [outcome for (outcome,) in await team.together(orders)]
        winner = _the_winner(harness, promise, outcomes)
        receipt = _receipt(harness, promise, outcomes[winner])
        for index, outcome in enumerate(outcomes):
            if index != winner:
                _lost(harness, promise, outcome, TailMoved(*receipt.tail))
        after = await handle.load(thread, ALL)
        ids = [stored.id for stored in before.records] + [f"{winner}-a", f"{winner}-b"]
        harness.expect(promise, ids, [stored.id for stored in after.records])
        harness.expect(promise, receipt.tail, after.tail)
        work = after.docs.get("work")
        common = after.resource_docs.get("work")
        harness.expect(promise, ((1, json.dumps(winner)),) * 2, (work, common))
        await look_everywhere(harness, team.handles, [thread], IDS)


def _lost(harness: Harness, promise: str, outcome: Outcome, error: Conflict) -> None:
    """LawBroken unless an outcome is this error."""
    seen = outcome.failure
    harness.require(
        promise,
        seen is not None and seen.name == type(error).__name__ and tuple(seen.args) == error.args,
        error,
        told([outcome]),
    )


async def tail_against_truncation(harness: Harness, handle: Recorded, team: Team) -> None:
    """Truncations and appends on one tail: a truncation moves the tail, also where it is the only one to do so."""
    promise = "of racing truncations and appends with one if_tail exactly one wins"
    for turn in range(team.rounds):
        thread = _thread(harness)
        await handle.commit(thread, Changes(1, harness.epoch(), tuple(record(f"old{index}") for index in range(4))))
        tail = (await handle.load(thread)).tail
        orders = []
        for writer in range(team.size):
            change = _changes(harness, 3, writer, if_tail=tail)
            if (writer + turn) % 2:
                change = replace(change, append=(), drop_after=2)
            orders.append(committing(thread, change))
        outcomes = [outcome for (outcome,) in await team.together(orders)]
        winner = _the_winner(harness, promise, outcomes)
        receipt = _receipt(harness, promise, outcomes[winner])
        for index, outcome in enumerate(outcomes):
            if index != winner:
                _lost(harness, promise, outcome, TailMoved(*receipt.tail))
        old = ["old0", "old1", "old2", "old3"]
        expected = old[:2] if (winner + turn) % 2 else [*old, f"{winner}-a", f"{winner}-b"]
        harness.expect(promise, expected, [stored.id for stored in (await handle.load(thread, ALL)).records])
        await look_everywhere(harness, team.handles, [thread], IDS)


async def create(harness: Harness, handle: Recorded, team: Team) -> None:
    """Many creations of one thread that must not be there."""
    promise = 'of racing commits with if_epoch="" exactly one creates the thread'
    for _ in range(team.rounds):
        thread = _thread(harness)
        changes = [_changes(harness, 5 + writer, writer, if_epoch="") for writer in range(team.size)]
        outcomes = [outcome for (outcome,) in await team.together([committing(thread, change) for change in changes])]
        winner = _the_winner(harness, promise, outcomes)
        receipt = _receipt(harness, promise, outcomes[winner])
        for index, outcome in enumerate(outcomes):
            if index != winner:
                _lost(harness, promise, outcome, TailMoved(*receipt.tail))
        after = await handle.load(thread, ALL)
        harness.expect(promise, [f"{winner}-a", f"{winner}-b"], [stored.id for stored in after.records])
        harness.expect(promise, (changes[winner].epoch, 5 + winner), (after.tail.epoch, after.created))
        await look_everywhere(harness, team.handles, [thread], IDS)


async def get_or_create(harness: Harness, handle: Recorded, team: Team) -> None:
    """Many first commits to one thread, all of which may create it."""
    promise = "racing first commits to a thread all succeed, in the epoch of one of them"
    for turn in range(team.rounds):
        thread = _thread(harness)
        changes = [_changes(harness, 5 + writer, writer, puts=(), resource_puts=()) for writer in range(team.size)]
        if turn % 2:
            changes = [replace(change, append=()) for change in changes]
        outcomes = [outcome for (outcome,) in await team.together([committing(thread, change) for change in changes])]
        epochs = {_receipt(harness, promise, outcome).tail.epoch for outcome in outcomes}
        after = await handle.load(thread, ALL)
        harness.expect(promise, {after.tail.epoch}, epochs)
        births = {change.epoch: change.at for change in changes}
        harness.expect(f"{promise}, and created is its time", births.get(after.tail.epoch), after.created)
        harness.expect(f"{promise}, and active is the latest time", 4 + team.size, after.active)
        ids = {found.id for change in changes for found in change.append}
        harness.expect(promise, ids, {stored.id for stored in after.records})
        harness.expect(promise, len(ids), len(after.records))
        rows = await handle.threads(Resource(thread.resource_id))
        harness.expect(f"{promise}, and it is listed once", ["thread"], [row.thread_id for row in rows])
        await look_everywhere(harness, team.handles, [thread], IDS)


async def appends(harness: Harness, handle: Recorded, team: Team) -> None:
    """N writers, M commits each, without conditions."""
    promise = "N writers x M appends leave exactly N*M batches, each whole and in its writer's order"
    thread = _thread(harness)
    times, size = 2 * team.rounds, 3
    orders = []
    for writer in range(team.size):
        steps = []
        for number in range(times):
            batch = tuple(record(f"{writer}/{number}/{index}") for index in range(size))
            steps.append(Step("commit", thread, Changes(number, harness.epoch(), batch, seen=Tail("other", number))))
        orders.append(Run(tuple(steps)))
    outcomes = await team.together(orders)
    after = await handle.load(thread, Window(before=team.size * times * size + 1))
    places = {stored.id: stored.position for stored in after.records}
    harness.expect(promise, team.size * times * size, len(after.records))
    harness.expect(promise, len(after.records), len(places))
    positions = [stored.position for stored in after.records]
    harness.expect(f"{promise}, at positions that rise", sorted(set(positions)), positions)
    found = [stored.id for stored in after.records]
    order = {name: index for index, name in enumerate(found)}
    for writer, answers in enumerate(outcomes):
        batches = []
        for number, outcome in enumerate(answers):
            receipt = _receipt(harness, promise, outcome)
            names = [f"{writer}/{number}/{index}" for index in range(size)]
            harness.expect(promise, [places.get(name) for name in names], list(receipt.positions))
            first = order.get(names[0], 0)
            harness.expect(promise, names, found[first : first + size])
            batches.append(first)
        harness.expect(promise, sorted(batches), batches)
    await look_everywhere(harness, team.handles, [thread], IDS)


async def same_message(harness: Harness, handle: Recorded, team: Team) -> None:
    """One message, appended by all at once; and one id with as many bodies."""
    for turn in range(team.rounds):
        thread = _thread(harness)
        await _prepare(harness, handle, thread, turn)
        promise = "a message that many append at once is stored once, and all learn its place"
        orders = [
            committing(thread, Changes(3, harness.epoch(), (record("same"), record("pair")))) for _ in range(team.size)
        ]
        receipts = [_receipt(harness, promise, outcome) for (outcome,) in await team.together(orders)]
        after = await handle.load(thread, ALL)
        places = [stored.position for stored in after.records if stored.id in ("same", "pair")]
        harness.expect(promise, [places] * team.size, [list(receipt.positions) for receipt in receipts])
        harness.expect(promise, 2, len(places))

        promise = "of many bodies under one id one is stored, and the others are a MessageConflict"
        bodies = [record("other", str(writer)) for writer in range(team.size)]
        orders = [
            committing(thread, Changes(4, harness.epoch(), (record(f"with{writer}"), body)))
            for writer, body in enumerate(bodies)
        ]
        outcomes = [outcome for (outcome,) in await team.together(orders)]
        winner = _the_winner(harness, promise, outcomes)
        for index, outcome in enumerate(outcomes):
            if index != winner:
                _lost(harness, promise, outcome, MessageConflict("other"))
        newest = (await handle.load(thread, Window(before=2))).records
        written = [(stored.id, stored.body) for stored in newest]
        with_it = record(f"with{winner}")
        harness.expect(promise, [(with_it.id, with_it.body), ("other", bodies[winner].body)], written)
        harness.expect(promise, len(after.records) + 2, len((await handle.load(thread, ALL)).records))
        await look_everywhere(harness, team.handles, [thread], IDS)


async def one_version(harness: Harness, handle: Recorded, team: Team) -> None:
    """Many puts on one version, of a thread's and of a resource's document."""
    promise = "of racing puts with one if_version exactly one wins, and the others write nothing"
    thread = _thread(harness)
    await handle.commit(thread, Changes(1, harness.epoch()))
    for turn in range(team.rounds):
        version = turn // 3
        orders: list[Run] = []
        for writer in range(team.size):
            put = (Put(f"slot{turn % 3}", json.dumps(writer), version),)
            fresh = (record(f"{turn}-{writer}"),)
            if turn % 3 == 0:
                orders.append(committing(thread, Changes(turn, harness.epoch(), fresh, puts=put)))
            elif turn % 3 == 1:
                orders.append(committing(thread, Changes(turn, harness.epoch(), fresh, resource_puts=put)))
            else:
                orders.append(Run((Step("commit", Resource(thread.resource_id), Changes(turn, puts=put)),)))
        outcomes = [outcome for (outcome,) in await team.together(orders)]
        winner = _the_winner(harness, promise, outcomes)
        for index, outcome in enumerate(outcomes):
            if index != winner:
                _lost(harness, promise, outcome, VersionMoved(f"slot{turn % 3}", version + 1))
        after = await handle.load(thread, ALL)
        docs = after.docs if turn % 3 == 0 else after.resource_docs
        doc = docs.get(f"slot{turn % 3}")
        harness.expect(promise, (version + 1, json.dumps(winner)), doc)
        written = [stored.id for stored in after.records if stored.id.startswith(f"{turn}-")]
        harness.expect(promise, [] if turn % 3 == 2 else [f"{turn}-{winner}"], written)
    await look_everywhere(harness, team.handles, [thread], IDS)


async def counters(harness: Harness, handle: Recorded, team: Team) -> None:
    """Every writer loads, adds a key, and puts with `if_version`, until it succeeds."""
    promise = "documents that many change by compare-and-set keep every change"
    thread = _thread(harness)
    await handle.commit(thread, Changes(1, harness.epoch()))
    for scope in (thread, Resource(thread.resource_id)):
        times = max(2, team.rounds // 4)
        orders = [Patch(scope, "work", f"{writer}", times, team.size * times) for writer in range(team.size)]
        for outcomes in await team.together(orders):
            for outcome in outcomes:
                _receipt(harness, promise, outcome)
        after = await handle.load(thread)
        docs = after.docs if scope == thread else after.resource_docs
        doc = docs.get("work")
        keys = {f"{writer}-{index}" for writer in range(team.size) for index in range(times)}
        body = json.loads(doc.body) if doc and doc.body else {}
        harness.expect(promise, (len(keys), sorted(keys)), (doc.version if doc else 0, sorted(body)))
    await look_everywhere(harness, team.handles, [thread], IDS)


async def chains(harness: Harness, handle: Recorded, team: Team) -> None:
    """Every writer loads the tail and appends on it, until it succeeds."""
    promise = "appends that are repeated on the tail loaded anew all succeed once, each writer's in its own order"
    thread = _thread(harness)
    times = max(2, team.rounds // 4)
    orders = [
        Chain(thread, tuple(record(f"{writer}-{index}") for index in range(times)), team.size * times)
        for writer in range(team.size)
    ]
    for outcomes in await team.together(orders):
        for outcome in outcomes:
            _receipt(harness, promise, outcome)
    found = [stored.id for stored in (await handle.load(thread, ALL)).records]
    for writer in range(team.size):
        own = [name for name in found if name.startswith(f"{writer}-")]
        harness.expect(promise, [f"{writer}-{index}" for index in range(times)], own)
    await look_everywhere(harness, team.handles, [thread], IDS)


async def messages_beside_documents(harness: Harness, handle: Recorded, team: Team) -> None:
    """Some append, some put another document each, and nobody undoes what another does."""
    promise = "commits that race on one thread undo nothing of each other"
    thread = _thread(harness)
    times = team.rounds
    orders = []
    for writer in range(team.size):
        steps = []
        for number in range(times):
            puts = (Put(f"slot{writer}", json.dumps(number)),)
            append = (record(f"{writer}-{number}"),)
            match writer % 3:
                case 0:
                    changes = Changes(number, harness.epoch(), append)
                case 1:
                    changes = Changes(number, harness.epoch(), puts=puts)
                case _:
                    changes = Changes(number, harness.epoch(), append, resource_puts=puts)
            steps.append(Step("commit", thread, changes))
        orders.append(Run(tuple(steps)))
    for outcomes in await team.together(orders):
        for outcome in outcomes:
            _receipt(harness, promise, outcome)
    after = await handle.load(thread, ALL)
    last = (times, json.dumps(times - 1))
    harness.expect(promise, {f"slot{w}": last for w in range(team.size) if w % 3 == 1}, dict(after.docs))
    harness.expect(promise, {f"slot{w}": last for w in range(team.size) if w % 3 == 2}, dict(after.resource_docs))
    ids = {f"{w}-{number}" for w in range(team.size) if w % 3 != 1 for number in range(times)}
    harness.expect(promise, ids, {stored.id for stored in after.records})
    harness.expect(promise, times - 1, after.active)
    await look_everywhere(harness, team.handles, [thread], IDS)


async def first_use(harness: Harness, handle: Recorded, team: Team) -> None:
    """Everyone opens the store at once and uses it at once."""
    promise = "a store that many open and use at once serves them all"
    for _ in range(max(1, team.rounds // 10)):
        thread = _thread(harness)
        orders = [
            Open(Step("commit", thread, Changes(1, harness.epoch(), (record(f"new{writer}"),))), 2)
            for writer in range(team.size)
        ]
        for outcomes in await team.together(orders):
            for outcome in outcomes:
                _receipt(harness, promise, outcome)
        found = sorted(stored.id for stored in (await handle.load(thread, ALL)).records)
        harness.expect(promise, sorted(f"new{writer}" for writer in range(team.size)), found)
        await look_everywhere(harness, team.handles, [thread], IDS)


async def stale(harness: Harness) -> None:
    """Every tail that a thread ever had, tried again at every later moment."""
    handle, other = await harness.open(), await harness.open()
    thread = _thread(harness)
    tails = [MISSING]
    for turn, work in enumerate(
        (
            {"append": (record("a"), record("b"))},
            {"append": (record("c"),)},
            {"drop_after": 2},
            {"append": (record("d"),)},
            {"drop_after": 2, "append": (record("c"), record("e"))},
            {"drop_after": 0},
            {"append": (record("a"), record("b"))},
            None,
            {"append": (record("a"), record("b"))},
            {"append": (record("c"),)},
            None,
            {},
        )
    ):
        if work is None:
            await handle.delete(thread)
            tail = MISSING
        else:
            tail = (await handle.commit(thread, Changes(turn, harness.epoch(), **work))).tail
        before = await other.load(thread, ALL)
        newest = before.records[-1].position if before.records else 0
        harness.expect("a tail is the position of the newest message", (tail, newest), (before.tail, tail.position))
        for old in set(tails) - {tail}:
            promise = "a tail that was, and is no more, is refused with the tail that is"
            changes = _changes(harness, 100 + turn, turn, if_tail=old)
            moved = await harness.refused(promise, TailMoved, other.commit(thread, changes))
            harness.expect(promise, tail, (moved.epoch, moved.position))
            if old.epoch != tail.epoch:
                promise = "an epoch that was, and is no more, is refused with the tail that is"
                changes = _changes(harness, 100 + turn, turn, if_epoch=old.epoch)
                moved = await harness.refused(promise, TailMoved, other.commit(thread, changes))
                harness.expect(promise, tail, (moved.epoch, moved.position))
        harness.expect("a commit that is refused for its tail writes nothing", before, await other.load(thread, ALL))
        tails.append(tail)
