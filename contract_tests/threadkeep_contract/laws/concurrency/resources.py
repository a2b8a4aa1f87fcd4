"""What contenders do to whole resources in the checks of law 5: all verbs at once, walks, scopes that meet."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Final

from threadkeep.port import After, Changes, Put, Resource, Tail, Thread, ThreadRow, Window
from threadkeep.port import Order as ListOrder
from threadkeep_contract.harness import ALL, Harness, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.inputs.confusable import just_before
from threadkeep_contract.processes.worker import Run, Step, perform
from threadkeep_contract.races.contenders import Team, told
from threadkeep_contract.races.linearizability import (
    IDS,
    STEPS,
    WRITERS,
    Event,
    apply,
    explain,
    history_of,
    random_changes,
)
from threadkeep_contract.reference.beside import ORDERS
from threadkeep_contract.reference.looks import MANY, look_everywhere
from threadkeep_contract.reference.model import Model
from threadkeep_contract.walks import place

MIXES: Final = (
    {"commit": 9, "resource commit": 2, "load": 3, "threads": 4, "resources": 1, "delete": 2, "erase": 1},
    {"commit": 6, "resource commit": 1, "load": 2, "threads": 2, "resources": 2, "delete": 4, "erase": 3},
)
"""How often each kind of call is made: where several threads live, and where one of each resource comes and goes."""

WALKED: Final = 12
"""Threads in a list that is walked while it changes."""


def _steps(chance: random.Random, threads: Sequence[Thread], writer: int, turn: int) -> tuple[Step, ...]:
    """Calls on the threads of two resources, on the resources, and on their lists."""
    steps = []
    mix = MIXES[turn % 2]
    if turn % 2:
        threads = threads[-2:]
    for number in range(STEPS):
        thread = chance.choice(threads)
        resource = Resource(thread.resource_id)
        match chance.choices(list(mix), list(mix.values()))[0]:
            case "commit":
                steps.append(Step("commit", thread, random_changes(chance, writer, number, turn)))
            case "resource commit":
                put = Put("work", f'"{writer}-{number}"', chance.choice((None, None, 0, 1, 2)))
                steps.append(Step("commit", resource, Changes(turn, puts=(put,))))
            case "load":
                anchor = chance.choice((None, None, *IDS, 1, 2, 3))
                window = Window(anchor, chance.choice((0, 1, 20)), chance.choice((0, 1, 20)))
                steps.append(Step("load", chance.choice((thread, thread, resource)), window=window))
            case "threads":
                order = chance.choice(ORDERS)
                after = After(1_000 * turn + chance.randrange(100), thread.thread_id) if chance.random() < 0.4 else None
                slots = chance.choice(((), ("work",)))
                limit = chance.choice((1, 2, 100))
                steps.append(Step("threads", resource, after=after, limit=limit, order=order, slots=slots))
            case "resources":
                start = just_before(min(thread.resource_id for thread in threads))
                after_name = chance.choice((start, min(thread.resource_id for thread in threads)))
                steps.append(Step("resources", resource, after=after_name, limit=chance.choice((1, 2))))
            case "delete":
                steps.append(Step("delete", thread))
            case "erase":
                steps.append(Step("delete", resource))
    return tuple(steps)


async def check_histories(harness: Harness, handle: Recorded, team: Team) -> None:
    """Let contenders make random calls on two resources, again and again, and explain each history by the model."""
    chance = random.Random(harness.seed)
    for turn in range(10 * team.rounds):
        harness.history.clear()
        room = harness.fresh()
        resources = [Resource(f"{room}a"), Resource(f"{room}b")]
        threads = [Thread(resources[0].resource_id, f"t{number}") for number in range(3)]
        threads.append(Thread(resources[1].resource_id, "t0"))
        model = Model()
        for thread in threads[turn % 3 :: 2]:
            start = Step("commit", thread, Changes(1_000 * turn, "epoch", (record("m0"), record("m1"))))
            await perform(handle, start)
            apply(model, start)
        plans = [_steps(chance, threads, writer, turn) for writer in range(min(team.size, WRITERS))]
        events = await history_of(harness, team, plans)
        for event in events:
            check_page(harness, event, threads)
        final = [Step("load", thread, window=ALL) for thread in threads]
        final += [Step("load", resource) for resource in resources]
        await explain(harness, events, final, handle, model)
        await look_everywhere(harness, team.handles, [*threads, *resources], IDS)


def check_page(harness: Harness, event: Event, threads: Collection[Thread]) -> None:
    """LawBroken where a page is not in order, goes beyond its bounds, or holds what nobody made."""
    step, outcome = event.step, event.outcome
    if outcome.rows is not None:
        falling = step.order == "active"
        places = [place(row, step.order) for row in outcome.rows]
        bounds = [*([step.after] if isinstance(step.after, After) else []), *places]
        made = {thread.thread_id for thread in threads if thread.resource_id == step.scope.resource_id}
        kept = all((one > two) if falling else (one < two) for one, two in pairwise(bounds))
        kept = kept and len(places) <= step.limit and {row.thread_id for row in outcome.rows} <= made
        harness.require("a page of threads is in its order, in its bounds, and has a thread once", kept, step, outcome)
    if outcome.names is not None:
        bounds_of_names = [*([step.after] if isinstance(step.after, str) else []), *outcome.names]
        kept = all(one < two for one, two in pairwise(bounds_of_names)) and len(outcome.names) <= step.limit
        harness.require("a page of resources is in order, in its bounds, and has one once", kept, step, outcome)


async def check_walks(harness: Harness, handle: Recorded, team: Team) -> None:
    """Walk through lists whose threads are committed to, made and deleted meanwhile."""
    chance = random.Random(harness.seed)
    for _ in range(max(2, team.rounds // 2)):
        harness.history.clear()
        resource = Resource(harness.fresh() + "user")
        threads = [Thread(resource.resource_id, f"t{number:02}") for number in range(WALKED)]
        for number, thread in enumerate(threads):
            await handle.commit(thread, Changes(1_000 * number, harness.epoch(), (record("m0"),), (Put("work", "0"),)))
        before = {row.thread_id: row for row in await handle.threads(resource, None, MANY, "created", ("work",))}
        touched, deleted = chance.sample(threads, 5), chance.sample(threads, 2)
        made = [Thread(resource.resource_id, f"new{number}") for number in range(team.size)]
        orders = []
        for writer in range(team.size):
            steps = []
            for number in range(2 * STEPS):
                at = chance.randrange(2_000 * WALKED)
                changes = Changes(at, harness.epoch(), (record(f"{writer}-{number}"),), (Put("work", str(at)),))
                steps.append(Step("commit", chance.choice((*touched, *touched, *deleted, made[writer])), changes))
                if number == STEPS:
                    steps.append(Step("delete", chance.choice(deleted)))
            orders.append(Run(tuple(steps)))
        walks = [(order, limit) for order in ORDERS for limit in (1, 3)]
        writing = asyncio.ensure_future(team.together(orders))
        try:
            walked = await asyncio.gather(
                *(
                    _walk(team.handles[number % len(team.handles)], resource, *walk, WALKED + team.size + STEPS)
                    for number, walk in enumerate(walks)
                )
            )
        finally:
            answers = await writing
        for outcomes in answers:
            harness.require(
                "commits beside walks all succeed",
                not any(each.failure for each in outcomes),
                "receipts",
                told(outcomes),
            )
        moving = {thread.thread_id for thread in touched}
        gone = {thread.thread_id for thread in deleted}
        for (order, _), rows in zip(walks, walked, strict=True):
            found = [row.thread_id for row in rows if row.thread_id not in gone]
            promise = f"a walk by {order!r} through a list that changes finds no thread at two places"
            harness.expect(promise, sorted(set(found)), sorted(found))
            quiet = [row for row in rows if row.thread_id not in moving | gone and row.thread_id in before]
            expected = [row for name, row in before.items() if name not in moving | gone]
            promise = (
                f"a walk by {order!r} through a list that changes finds every thread that nobody touched, in order"
            )
            harness.expect(promise, expected if order == "created" else expected[::-1], quiet)
            if order == "created":
                promise = "a commit to a thread does not take it out of a walk by creation"
                harness.expect(promise, sorted(moving - gone), sorted((moving - gone) & set(found)))
        await look_everywhere(harness, team.handles, [*threads, *made])


async def _walk(handle: Recorded, resource: Resource, order: ListOrder, limit: int, most: int) -> list[ThreadRow]:
    """The rows of a list, page by page, and no more than `most` pages: a list that moves along may never end."""
    rows: list[ThreadRow] = []
    after = None
    for _ in range(most):
        page = await handle.threads(resource, after, limit, order, ("work",))
        rows += [row._replace(docs=dict(row.docs), tail=Tail(*row.tail)) for row in page]
        if len(page) < limit:
            break
        after = place(page[-1], order)
        await asyncio.sleep(0)
    return rows


async def check_meetings(harness: Harness, handle: Recorded, team: Team) -> None:
    """Commits, deletions and erasures that each touch several scopes, in whatever order a store takes them.

    Every other time they meet in one thread, the only one of its resource, which then comes and goes.
    """
    chance = random.Random(harness.seed)
    promise = "calls that meet in several scopes all end, and none is refused"
    for turn in range(12 + 2 * team.rounds):
        harness.history.clear()
        room = harness.fresh()
        threads = [Thread(f"{room}{name}", thread_id) for name in "ab" for thread_id in ("t", "u")]
        if turn % 2:
            threads = threads[:1]
        orders = []
        for writer in range(team.size):
            steps = []
            for number in range(2 if turn % 2 else STEPS):
                thread = threads[(writer + number * (1 if writer % 2 else -1)) % len(threads)]
                resource = Resource(thread.resource_id)
                puts = tuple(Put(slot, f"{writer}") for slot in chance.sample(("work", "info"), 2))
                fresh = (record(f"{writer}-{number}"),)
                alone = Step("commit", resource, Changes(turn, puts=puts))
                commit = Step("commit", thread, Changes(turn, harness.epoch(), fresh, puts))
                both = Step("commit", thread, Changes(turn, harness.epoch(), fresh, puts, puts[::-1]))
                lists = Step("threads", resource, slots=("work", "info"))
                erase, delete = Step("delete", resource), Step("delete", thread)
                steps.append(chance.choice((commit, commit, both, both, alone, erase, delete, lists)))
            orders.append(Run(tuple(steps)))
        for order, outcomes in zip(orders, await team.together(orders), strict=True):
            kept = len(outcomes) == len(order.steps) and not any(each.failure for each in outcomes)
            harness.require(promise, kept, "answers", told(outcomes))
        await look_everywhere(harness, team.handles, threads)
