"""Law 2: no duplication.

A message id is unique in its thread. Appending a message that is there already, equal, is a no-op that returns its
first position: in the same call, later, from another process, after a crash, mixed with new ones. The same id with
another body is `MessageConflict`, and nothing of that append is written. Two messages with different ids are two
messages, however equal their contents are: two turns that say the same thing are both kept. The same id in two threads
is two unrelated messages.

Repetition from other processes is checked under law 5, and repetition after kills under law 6.
"""

from __future__ import annotations

import asyncio
from operator import itemgetter

from threadkeep.errors import MessageConflict
from threadkeep.port import Changes, Clause, Put, Record, Thread, Window
from threadkeep_contract import large
from threadkeep_contract.evidence import least
from threadkeep_contract.harness import ALL, Harness, Law, appending, raw_record, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.identity import drawn_ids
from threadkeep_contract.inputs.confusable import MESSAGE_IDS, one_thread
from threadkeep_contract.inputs.operations import Program, programs
from threadkeep_contract.reference.beside import agree
from threadkeep_contract.reference.machine import START, compare
from threadkeep_contract.reference.model import Model


async def _read(handle: Recorded, scope: Thread) -> list[tuple[int, str, str]]:
    """Position, id and body of every record."""
    return [(entry.position, entry.id, entry.body) for entry in (await handle.load(scope, ALL)).records]


class Duplication(Law):
    """A message is stored once, whatever is repeated, and never changed."""

    number = 2
    title = "No duplication"

    @least(commits=2)
    def test_a_repeated_append_is_a_no_op(self, harness: Harness) -> None:
        """Messages that are appended again, equal, get their first positions, and nothing is added. They are repeated
        whole, mixed with new messages, in another order, twice in one call and through another handle.
        """

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            scope = Thread(harness.fresh() + "r", "t")
            a, b, c, d = (record(name, f"says {name}") for name in "abcd")
            first = await one.commit(scope, appending(harness, START, a, b))
            again = await two.commit(scope, appending(harness, START + 9, a, b))
            harness.expect("a repeat gives the receipt of the first", list(first.positions), list(again.positions))
            harness.expect("a repeat does not move the tail", first.tail, again.tail)
            mixed = await two.commit(scope, appending(harness, START + 10, c, b, d, a, c))
            pa, pb = first.positions
            pc, _, pd, _, _ = mixed.positions
            harness.expect(
                "known messages among new ones keep their first positions", [pc, pb, pd, pa, pc], list(mixed.positions)
            )
            backwards = await one.commit(scope, appending(harness, START + 11, d, c, b, a))
            harness.expect("a repeat in another order", [pd, pc, pb, pa], list(backwards.positions))
            kept = [(pa, "a", a.body), (pb, "b", b.body), (pc, "c", c.body), (pd, "d", d.body)]
            harness.expect("each message is there once", kept, await _read(one, scope))
            harness.expect("each message is there once, through another handle", kept, await _read(two, scope))

        harness.run(check)

    @least(commits=2)
    def test_a_repeat_succeeds_though_the_tail_has_moved(self, harness: Harness) -> None:
        """The repetition of a commit that happened is answered with its receipt, though its `if_tail` is no longer the
        tail.
        """

        async def check() -> None:
            handle = await harness.open()
            scope = Thread(harness.fresh() + "r", "t")
            begun = await handle.commit(scope, appending(harness, START, record("a")))
            changes = appending(harness, START + 1, record("b"), record("c"), if_tail=begun.tail)
            first = await handle.commit(scope, changes)
            again = await handle.commit(scope, changes)
            harness.expect("the same positions", list(first.positions), list(again.positions))
            after = await handle.commit(scope, appending(harness, START + 2, record("d")))
            late = await handle.commit(scope, changes)
            harness.expect("the same positions, later", list(first.positions), list(late.positions))
            harness.expect("the tail of now", after.tail, late.tail)
            harness.expect("nothing doubled", ["a", "b", "c", "d"], [entry[1] for entry in await _read(handle, scope)])

        harness.run(check)

    def test_another_body_is_a_conflict_and_nothing_is_written(self, harness: Harness) -> None:
        """The same id with another body, first, last or in the middle of an append, is a `MessageConflict` that names
        the id. Records, documents and times are as before.
        """

        async def check() -> None:
            handle = await harness.open()
            scope = Thread(harness.fresh() + "r", "t")
            await handle.commit(
                scope, appending(harness, START, record("a", "first"), record("b"), puts=(Put("info", "{}"),))
            )
            before = await handle.load(scope, ALL)
            other = record("a", "second")
            new = record("n")
            for append in [(other,), (new, other), (other, new), (record("b"), new, other), (new, other, record("o"))]:
                changes = appending(
                    harness,
                    START + 5_000_000,
                    *append,
                    puts=(Put("info", "[]"),),
                    resource_puts=(Put("working_memory", "[]"),),
                )
                promise = "the same id with another body is MessageConflict"
                error = await harness.refused(promise, MessageConflict, handle.commit(scope, changes))
                harness.expect("the conflict names the message", "a", error.message_id)
                harness.expect("nothing of a refused append is written", before, await handle.load(scope, ALL))

        harness.run(check)

    @least(commits=2)
    def test_equal_contents_are_two_messages(self, harness: Harness) -> None:
        """People say "yes" twice: messages with equal texts, and even with equal bodies, under different ids are all
        kept.
        """

        async def check() -> None:
            handle = await harness.open()
            scope = Thread(harness.fresh() + "r", "t")
            body = '{"role":"user","parts":[{"type":"text","text":"yes"}]}'
            twins = [raw_record(f"twin{number}", body) for number in range(3)]
            texts = [record(f"yes{number}", "yes") for number in range(3)]
            await handle.commit(scope, appending(harness, START, *twins[:2], *texts[:2]))
            await handle.commit(scope, appending(harness, START, twins[2]))
            await handle.commit(scope, appending(harness, START, texts[2]))
            expected = [made.id for made in (*twins[:2], *texts[:2], twins[2], texts[2])]
            harness.expect("equal contents, all kept", expected, [entry[1] for entry in await _read(handle, scope)])

        harness.run(check)

    @least(commits=2, deletions=1)
    def test_the_same_id_in_two_threads_is_two_messages(self, harness: Harness) -> None:
        """One message id in two threads of a resource, and in two resources, is as many messages: none overwrites,
        moves or conflicts with another, and dropping or deleting one leaves the others.
        """

        async def check() -> None:
            handle = await harness.open()
            room = harness.fresh()
            scopes = [Thread(room + "r", "t"), Thread(room + "r", "u"), Thread(room + "s", "t")]
            made = [record("same", f"in {number}") for number in range(3)]
            for scope, one in zip(scopes, made, strict=True):
                receipt = await handle.commit(scope, appending(harness, START, one, record("also")))
                harness.expect("each thread begins its own positions", [1, 2], list(receipt.positions))
            for scope, one in zip(scopes, made, strict=True):
                expected = [(1, "same", one.body), (2, "also", record("also").body)]
                harness.expect("each thread has its own message", expected, await _read(handle, scope))
            await handle.commit(scopes[0], Changes(at=START, epoch=harness.epoch(), drop_after=0))
            await handle.delete(scopes[2])
            harness.expect(
                "dropping a message leaves another thread's of the same id",
                [(1, "same", made[1].body), (2, "also", record("also").body)],
                await _read(handle, scopes[1]),
            )

        harness.run(check)

    @least(commits=30, loads=30)
    def test_confusable_ids_are_two_messages(self, harness: Harness) -> None:
        """Two message ids that a careless store takes for one are two messages in one thread. Of each pair of the
        catalogue, both are kept, and each is found and repeated by its own id.
        """

        async def check(one: str, other: str) -> None:
            (handle,) = await harness.reused(1)
            scope = Thread(harness.fresh() + "r", "t")
            first, second = record(one, "one"), record(other, "other")
            await handle.commit(scope, appending(harness, START, first))
            await handle.commit(scope, appending(harness, START, second))
            expected = [(1, one, first.body), (2, other, second.body)]
            harness.expect("two ids are two messages", expected, await _read(handle, scope))
            again = await handle.commit(scope, appending(harness, START, second, first))
            harness.expect("each is known by its own id", [2, 1], list(again.positions))
            for number, message_id in enumerate((one, other)):
                found = await handle.load(scope, Window(message_id, after=1))
                harness.expect(
                    "each is found by its own id",
                    [expected[number]],
                    [(entry.position, entry.id, entry.body) for entry in found.records],
                )

        for _, one, other in harness.some(MESSAGE_IDS, 1 / 3, kind=itemgetter(0)):
            harness.history.clear()
            harness.run(check, one, other)

    def test_message_ids_that_differ_anywhere_are_messages_of_their_own(self, harness: Harness) -> None:
        """Messages whose ids are alike but for one place, anywhere, are messages of their own: each is known, found,
        refused with another body and dropped by its own id. Families of some forty ids of 1 to 512 bytes are drawn that
        differ in a letter case, a normal form, a mark that does not show, white space, a digit or one bit, and every
        answer is compared with the reference model's.
        """

        async def check(family: tuple[str, ...]) -> None:
            one, two = await harness.reused(2)
            scope, model = Thread(harness.fresh() + "r", "t"), Model()
            made = [record(message_id, f"{number}") for number, message_id in enumerate(family)]

            async def commit(*append: Record, drop_after: int | None = None) -> None:
                changes = appending(harness, START, *append, drop_after=drop_after)
                await agree(harness, one, model, "commit", scope, changes)

            # Half of them one after the other, so that each of these meets those before it, and the rest together.
            for each in made[::2]:
                await commit(each)
            await commit(*made)
            await agree(harness, two, model, "load", scope, ALL)
            for each in made:
                await agree(harness, two, model, "load", scope, Window(each.id, 1, 1))
                await commit(record("new"), each._replace(digest="0" * 64))
            await commit(*made[::-1])
            await commit(drop_after=len(made) // 2)
            await commit(*made)
            await agree(harness, two, model, "load", scope, ALL)

        harness.explore(drawn_ids(harness), check, share=0.4)

    def test_digests_that_differ_in_one_digit_are_a_conflict(self, harness: Harness) -> None:
        """A message whose digest differs from the stored one's in a single digit, at any of its places, is another
        message under the same id, even if their bodies are alike: `MessageConflict`, and nothing is written. With an
        equal digest it is known, and the body that is stored stays.
        """

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            scope, model = Thread(harness.fresh() + "r", "t"), Model()
            made = [record(f"m{number}", "same") for number in range(64)]
            await agree(harness, one, model, "commit", scope, appending(harness, START, *made))
            for place, each in enumerate(made):
                changed = f"{int(each.digest[place], 16) ^ (1 << place % 4):x}"
                other = each._replace(digest=each.digest[:place] + changed + each.digest[place + 1 :])
                for append in ((other,), (record("new"), made[0], other)):
                    await agree(harness, two, model, "commit", scope, appending(harness, START, *append))
            alike = [each._replace(body=record(each.id, "other").body) for each in made]
            await agree(harness, two, model, "commit", scope, appending(harness, START, *alike))
            await agree(harness, one, model, "load", scope, ALL)

        harness.run(check)

    @least(commits=4)
    def test_the_same_append_from_many_tasks_is_stored_once(self, harness: Harness) -> None:
        """Messages that many tasks on two handles append at the same time are stored once, and each task gets the same
        positions.
        """

        async def check() -> None:
            handles = [await harness.open(), await harness.open()]
            for _ in range(harness.profile.rounds):
                harness.history.clear()
                scope = Thread(harness.fresh() + "r", "t")
                made = (record("a"), record("b"))
                receipts = await asyncio.gather(
                    *[
                        handles[number % 2].commit(scope, appending(harness, START, *made))
                        for number in range(harness.profile.tasks)
                    ]
                )
                for receipt in receipts:
                    harness.expect("every writer gets the first positions", [1, 2], list(receipt.positions))
                expected = [(1, "a", made[0].body), (2, "b", made[1].body)]
                harness.expect("each message is there once", expected, await _read(handles[0], scope))

        harness.run(check)

    @least(commits=2)
    def test_a_repeat_after_reopening_is_a_no_op(self, harness: Harness) -> None:
        """Messages are known after the store was closed and opened again, as after a crash of the client: the
        repetition gets the first positions, and nothing is added. Clause `durability`.
        """
        if not harness.offers(Clause.DURABILITY):
            return

        async def check() -> None:
            scope = Thread(harness.fresh() + "r", "t")
            made = [record(f"m{number}") for number in range(5)]
            first = await harness.open()
            receipt = await first.commit(scope, appending(harness, START, *made))
            stored = list((await first.load(scope, ALL)).records)
            await first.close()
            second = await harness.open()
            again = await second.commit(scope, appending(harness, START + 1, *made))
            harness.expect("the first positions", list(receipt.positions), list(again.positions))
            harness.expect("nothing is added", stored, list((await second.load(scope, ALL)).records))

        harness.run(check)

    def test_a_repeat_is_known_however_far_back_it_was(self, harness: Harness) -> None:
        """Messages that were appended thousands of messages ago are known: repeated, in commits that take them from
        anywhere in the thread, dozens or nearly as many as a commit takes, alone and mixed with new ones, they get
        their first positions. The same id with another body is a conflict wherever it is, and nothing of its commit is
        written.
        """

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            scope, drawn = Thread(harness.fresh() + "r", "t"), large.chance(harness)
            made = await large.long_thread(harness, one, scope, large.size(harness, harness.profile.records))
            count = len(made)
            for round_ in range(6):
                # Every other time nearly as many as a commit takes, which may be more than a store looks up at once.
                most = min(len(made), one.limits.commit_messages)
                size = large.BATCH - 1 if round_ % 2 else drawn.randrange(1 + most // 2, most + 1)
                places = drawn.sample(range(len(made)), size)
                # The oldest are the furthest back, and whoever looks at the newest only begins above them.
                places[:2] = [round_, round_ + 6]
                places = list(dict.fromkeys(places))
                repeated = [made[place] for place in places]
                receipt = await two.commit(scope, appending(harness, START, *repeated))
                first = [place + 1 for place in places]
                harness.expect("a repeat gets its first positions", first, list(receipt.positions))
                harness.expect("a repeat adds nothing", count, receipt.tail.position)
                # In a commit of hundreds there is room for a new one.
                some = repeated[: max(50, size - 2)]
                changed = record(drawn.choice(repeated).id, "changed")
                mixed = [record(f"new{round_}"), *[each for each in some if each.id != changed.id], changed]
                work = two.commit(scope, appending(harness, START, *mixed))
                error = await harness.refused("another body is a conflict, however far back", MessageConflict, work)
                harness.expect("the conflict names the message", changed.id, error.message_id)
                receipt = await one.commit(scope, appending(harness, START, record(f"new{round_}"), *some))
                count += 1
                harness.expect("new ones go to the end", [count, *first[: len(some)]], list(receipt.positions))
            seen = (await two.load(scope, ALL)).records
            harness.expect("every message is there once", count, len({entry.id for entry in seen}))
            harness.expect("every message is there once", count, len(seen))

        large.run(harness, check)

    @least(commits=5, loads=5)
    def test_programs_of_appends_answer_as_the_model(self, harness: Harness) -> None:
        """Random appends of few ids, with equal and unequal bodies and some of them confusable, through two handles,
        are answered as by the reference model.
        """

        async def check(program: Program) -> None:
            await compare(harness, program)

        harness.explore(programs(("append", "conditions"), harness.profile.steps, one_thread()), check)
        harness.explore(programs(("append", "load"), harness.profile.steps), check, share=0.5)
