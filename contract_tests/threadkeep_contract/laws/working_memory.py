"""Law 9: working memory.

A record of its own, in the thread scope (default) or the resource scope; never inside thread metadata. Every write
gives a new version; `if_version` is compare-and-set; a JSON merge patch is applied atomically. N disjoint patches from
N processes are all there afterwards.

Documents that several processes change at once are checked under law 5.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from hypothesis import strategies as st

from threadkeep.errors import VersionMoved
from threadkeep.handles import Memory, WorkingMemoryHandle
from threadkeep.port import Changes, Doc, Put, Resource, Scope, Thread
from threadkeep_contract import large
from threadkeep_contract.evidence import least
from threadkeep_contract.harness import ALL, Harness, Law, appending, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.identity import TWINS, drawn_ids
from threadkeep_contract.inputs.operations import Kinds, Program, programs
from threadkeep_contract.races.restarts import through_restarts
from threadkeep_contract.reference.beside import Given, agree
from threadkeep_contract.reference.machine import START, compare
from threadkeep_contract.reference.model import Model

RFC_7396: Final[tuple[tuple[Any, Any, Any], ...]] = (
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
)
"""Value, patch and result: the test cases of RFC 7396, appendix A, whose patch is an object."""


class Written(NamedTuple):
    """A scope whose documents several writers put, and the scopes of their commits: the writers take those in turn."""

    scope: Scope
    through: tuple[Scope, ...]

    async def put(self, harness: Harness, writer: int, handle: Recorded, *puts: Put) -> Sequence[int]:
        """Put documents as a writer of a number does; their versions. Raises as a commit does."""
        by = self.through[writer % len(self.through)]
        if by == self.scope:
            return (await handle.commit(by, _put(harness, by, *puts))).versions
        changes = Changes(at=START, epoch=harness.epoch(), resource_puts=puts)
        return (await handle.commit(by, changes)).resource_versions


def _written(room: str) -> list[Written]:
    """A thread's documents; a resource's, by commits to it; and a resource's, by commits to its threads too."""
    thread, resource, shared = Thread(room + "r", "t"), Resource(room + "s"), Resource(room + "x")
    threads = tuple(Thread(shared.resource_id, thread_id) for thread_id in "tuv")
    return [Written(thread, (thread,)), Written(resource, (resource,)), Written(shared, (*threads, shared))]


def _put(harness: Harness, scope: Scope, *puts: Put) -> Changes:
    """A commit of puts to a scope."""
    if isinstance(scope, Resource):
        return Changes(at=START, puts=puts)
    return Changes(at=START, epoch=harness.epoch(), puts=puts)


async def _docs(handle: Recorded, scope: Scope) -> dict[str, Doc]:
    found = await handle.load(scope)
    return dict(found.resource_docs if isinstance(scope, Resource) else found.docs)


class WorkingMemory(Law):
    """Versioned documents of a thread and of a resource, written whole or not at all."""

    number = 9
    title = "Working memory"

    @least(commits=5, loads=5)
    def test_every_write_gives_a_new_version(self, harness: Harness) -> None:
        """Every write gives a document its next version, from 1 up and slot by slot: also a write of an equal body, a
        removal, and a put after a removal, in both scopes.
        """

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            room = harness.fresh()
            for scope in (Thread(room + "r", "t"), Resource(room + "s")):
                for version, body in enumerate(["1", "1", '{"a":1}', None, None, "2", ""], start=1):
                    receipt = await one.commit(scope, _put(harness, scope, Put("working_memory", body)))
                    harness.expect("the next version", [version], list(receipt.versions))
                    expected = {"working_memory": Doc(version, body)}
                    harness.expect("what was put", expected, await _docs(two, scope))
                receipt = await one.commit(scope, _put(harness, scope, Put("info", "3"), Put("working_memory", "4")))
                harness.expect("each slot counts for itself, in the order given", [1, 8], list(receipt.versions))
                expected = {"info": Doc(1, "3"), "working_memory": Doc(8, "4")}
                harness.expect("both slots", expected, await _docs(two, scope))

        harness.run(check)

    @least(commits=4, loads=20)
    def test_if_version_is_compare_and_set(self, harness: Harness) -> None:
        """A put with `if_version` is written at that version alone, 0 standing for no document. At every other version
        it is a `VersionMoved` that names the slot and its version, and nothing is written. A removed document is not
        one that was never there.
        """

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            room = harness.fresh()
            for scope in (Thread(room + "r", "t"), Resource(room + "s")):
                for version in range(4):
                    for wrong in {0, 1, 2, 3, 4, 9} - {version}:
                        before = await two.load(scope, ALL)
                        error = await harness.refused(
                            "another version is VersionMoved",
                            VersionMoved,
                            one.commit(scope, _put(harness, scope, Put("working_memory", '"no"', wrong))),
                        )
                        harness.expect("it names the slot and its version", ("working_memory", version), error.args)
                        harness.expect("nothing was written", before, await two.load(scope, ALL))
                    receipt = await two.commit(
                        scope, _put(harness, scope, Put("working_memory", str(version), version))
                    )
                    harness.expect("written at its version", [version + 1], list(receipt.versions))
                removed = await one.commit(scope, _put(harness, scope, Put("working_memory", None, 4)))
                harness.expect("removed at its version", [5], list(removed.versions))
                promise = "a removed document is not one that was never there"
                await harness.refused(
                    promise, VersionMoved, one.commit(scope, _put(harness, scope, Put("working_memory", "1", 0)))
                )

        harness.run(check)

    @least(loads=4)
    def test_a_refused_put_takes_its_commit_along(self, harness: Harness) -> None:
        """A commit of several parts of which one condition fails writes none of them: no message, no document of either
        scope, no thread, no time.
        """

        async def check() -> None:
            handle = await harness.open()
            scope = Thread(harness.fresh() + "r", "t")
            good, bad = Put("info", "1"), Put("working_memory", "1", 7)
            for there in (False, True):
                if there:
                    await handle.commit(scope, appending(harness, START, record("a"), puts=(Put("info", "0"),)))
                before = await handle.load(scope, ALL)
                for puts, resource_puts in [
                    ((good, bad), ()),
                    ((good,), (good, bad)),
                    ((bad,), (good,)),
                    ((), (bad, good)),
                ]:
                    changes = appending(
                        harness, START + 9, record("b"), puts=puts, resource_puts=resource_puts, drop_after=0
                    )
                    error = await harness.refused("VersionMoved", VersionMoved, handle.commit(scope, changes))
                    harness.expect("the slot and its version", ("working_memory", 0), error.args)
                    harness.expect("nothing of the commit is written", before, await handle.load(scope, ALL))

        harness.run(check)

    @least(commits=4, loads=4)
    def test_of_many_writers_at_one_version_one_wins(self, harness: Harness) -> None:
        """Of many tasks on two handles that put with one `if_version` exactly one wins, and the others get the new
        version, in both scopes: in a thread's document, and in a resource's, put by commits to the resource alone or by
        commits to its threads and to it.
        """

        async def check(written: Written) -> None:
            handles = await harness.reused(2)
            for version in range(3):
                outcomes = await asyncio.gather(
                    *[
                        written.put(harness, writer, handles[writer % 2], Put("working_memory", str(writer), version))
                        for writer in range(harness.profile.tasks)
                    ],
                    return_exceptions=True,
                )
                winners = [number for number, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
                harness.expect("exactly one writer wins", 1, len(winners))
                for outcome in outcomes:
                    if isinstance(outcome, BaseException):
                        moved = isinstance(outcome, VersionMoved) and outcome.version == version + 1
                        harness.require("the others see the new version", moved, "VersionMoved", repr(outcome))
                expected = {"working_memory": Doc(version + 1, str(winners[0]))}
                harness.expect("the winner's body", expected, await _docs(handles[0], written.scope))

        for _ in range(harness.profile.rounds):
            harness.history.clear()
            for written in _written(harness.fresh()):
                harness.run(check, written)

    @least(commits=8)
    def test_unconditional_puts_are_all_counted(self, harness: Harness) -> None:
        """N writers that put M times each without a condition leave version N*M, and each version was given once, in
        both scopes, through whichever scope a resource's document is put.
        """

        async def check(written: Written) -> None:
            handles = await harness.reused(2)
            writers, times = harness.profile.tasks, 5

            async def write(writer: int) -> list[int]:
                given: list[int] = []
                for number in range(times):
                    put = Put("working_memory", f"[{writer},{number}]")
                    given += await written.put(harness, writer, handles[writer % 2], put)
                return given

            given = await asyncio.gather(*[write(writer) for writer in range(writers)])
            everything = sorted(version for part in given for version in part)
            harness.expect("each version once", list(range(1, writers * times + 1)), everything)
            for part in given:
                harness.expect("each writer's versions rise", sorted(part), part)
            version = (await _docs(handles[0], written.scope))["working_memory"].version
            harness.expect("the version at the end", writers * times, version)

        for written in _written(harness.fresh()):
            harness.run(check, written)

    @least(commits=8)
    def test_writers_of_two_documents_do_not_undo_each_other(self, harness: Harness) -> None:
        """Tasks that put two documents of one scope at the same time do not undo each other: each document has the
        versions of its own writers, in both scopes, through whichever scope a resource's documents are put.
        """

        async def check(written: Written) -> None:
            handles = await harness.reused(2)
            writers = 4
            puts = [Put(slot, str(number)) for number in range(writers) for slot in ("info", "working_memory")]
            await asyncio.gather(
                *[written.put(harness, number, handles[number % 2], put) for number, put in enumerate(puts)]
            )
            found = await _docs(handles[0], written.scope)
            harness.expect(
                "each document counts its own writers",
                {"info": writers, "working_memory": writers},
                {slot: doc.version for slot, doc in found.items()},
            )

        for _ in range(harness.profile.rounds):
            harness.history.clear()
            for written in _written(harness.fresh()):
                harness.run(check, written)

    @least(commits=3, loads=3, deletions=1)
    def test_scopes_do_not_share_documents(self, harness: Harness) -> None:
        """A thread's document is not its resource's, not its neighbour's and not its info. Documents outlive the
        messages, and those of a resource outlive its threads. A missing thread shows its resource's documents.
        """

        async def check() -> None:
            handle = await harness.open()
            room = harness.fresh()
            thread, other = Thread(room + "r", "t"), Thread(room + "r", "u")
            resource = Resource(room + "r")
            changes = appending(
                harness,
                START,
                record("a"),
                puts=(Put("working_memory", '"thread"'), Put("info", '"info"')),
                resource_puts=(Put("working_memory", '"resource"'),),
            )
            await handle.commit(thread, changes)
            await handle.commit(other, _put(harness, other, Put("working_memory", '"other"')))
            mine = {"working_memory": Doc(1, '"thread"'), "info": Doc(1, '"info"')}
            shared = {"working_memory": Doc(1, '"resource"')}
            found = await handle.load(thread)
            harness.expect("the thread's documents", (mine, shared), (dict(found.docs), dict(found.resource_docs)))
            found = await handle.load(other)
            theirs = {"working_memory": Doc(1, '"other"')}
            harness.expect("a neighbour's", (theirs, shared), (dict(found.docs), dict(found.resource_docs)))
            found = await handle.load(resource)
            harness.expect("the resource's", ({}, shared), (dict(found.docs), dict(found.resource_docs)))
            harness.expect("the resource has no tail", ("", 0), tuple(found.tail))
            await handle.commit(thread, Changes(at=START, epoch=harness.epoch(), drop_after=0))
            await handle.commit(thread, appending(harness, START, record("b")))
            harness.expect("messages come and go, documents stay", mine, await _docs(handle, thread))
            await handle.delete(thread)
            await handle.delete(other)
            harness.expect("the resource's document lives without threads", shared, await _docs(handle, resource))
            missing = await handle.load(thread)
            harness.expect("a missing thread shows its resource's documents", shared, dict(missing.resource_docs))
            harness.expect("and none of its own", {}, dict(missing.docs))

        harness.run(check)

    @least(commits=2, loads=2)
    def test_working_memory_is_not_metadata(self, harness: Harness) -> None:
        """Working memory, title and metadata do not show in each other, and writing one does not move the version of
        another. This is tried through the handles.
        """

        async def check() -> None:
            resource = Memory(await harness.open()).resource(harness.fresh() + "r")
            thread = await resource.create_thread("t", title="Title", metadata={"plan": "gold"})
            await thread.working_memory.put({"name": "Ann"})
            await resource.working_memory.put({"name": "resource"})
            info = await thread.rename("Renamed")
            harness.expect("metadata after working memory", ({"plan": "gold"}, "Renamed"), (info.metadata, info.title))
            mine = await thread.working_memory.get()
            harness.expect("working memory after metadata", (1, {"name": "Ann"}), (mine.version, mine.value))
            ours = await resource.working_memory.get()
            harness.expect("of the resource", (1, {"name": "resource"}), (ours.version, ours.value))
            await thread.append("a message")
            harness.expect("appending leaves the title", "Renamed", (await thread.info()).title)
            cleared = await thread.working_memory.clear(if_version=1)
            again = await thread.working_memory.get()
            harness.expect("cleared: no value, the version goes on", (2, None), (again.version, again.value))
            harness.expect("as clear() said", 2, cleared.version)

        harness.run(check)

    @least(commits=20, loads=20)
    def test_a_merge_patch_does_what_the_rfc_says(self, harness: Harness) -> None:
        """A merge patch does what RFC 7396 says. The RFC's own cases are tried in both scopes, and random patches are
        compared with the pseudocode of the RFC.
        """

        async def cases() -> None:
            resource = Memory(await harness.open()).resource(harness.fresh() + "r")
            for number, (value, patch, result) in enumerate(RFC_7396):
                for holder in (resource.thread(f"t{number}").working_memory, resource.working_memory):
                    before = await holder.put(value)
                    patched = await holder.patch(patch)
                    harness.expect(f"{value} patched by {patch}", result, patched.value)
                    found = await holder.get()
                    harness.expect("stored as returned", (before.version + 1, result), (found.version, found.value))

        harness.run(cases)
        leaf = st.one_of(st.none(), st.integers(0, 3), st.just("x"), st.just([1]))
        documents = st.recursive(leaf, lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3))
        patches = st.dictionaries(st.sampled_from("abc"), documents, max_size=3)

        async def check(case: tuple[Any, list[dict[str, Any]]]) -> None:
            value, given = case
            (handle,) = await harness.reused(1)
            holder = Memory(handle).thread(harness.fresh() + "r", "t").working_memory
            if value is not None:
                await holder.put(value)
            for patch in given:
                value = _merged(value, patch)
                harness.expect("a merge patch", value, (await holder.patch(patch)).value)
            harness.expect("all merge patches", value, (await holder.get()).value)

        harness.explore(st.tuples(documents, st.lists(patches, min_size=1, max_size=3)), check, share=0.5)

    @least(commits=8)
    def test_disjoint_patches_are_all_there(self, harness: Harness) -> None:
        """Many tasks on two handles patch a key each, several times: at the end all keys are there, and every patch
        gave a version, in both scopes.
        """

        async def check(holders: Sequence[WorkingMemoryHandle]) -> None:
            writers, times = harness.profile.tasks, 3

            async def patch(writer: int) -> None:
                for number in range(times):
                    holder = holders[writer % len(holders)]
                    await holder.patch({f"writer{writer}": number, "nested": {f"w{writer}": number}})

            await asyncio.gather(*[patch(writer) for writer in range(writers)])
            found = await holders[0].get()
            expected: dict[str, Any] = {f"writer{writer}": times - 1 for writer in range(writers)}
            expected["nested"] = {f"w{writer}": times - 1 for writer in range(writers)}
            harness.expect("every patch is there", expected, found.value)
            harness.expect("every patch gave a version", writers * times, found.version)

        memories = [Memory(handle) for handle in harness.run(harness.reused, 2)]
        room = harness.fresh()
        harness.run(check, [memory.resource(room + "r").working_memory for memory in memories])
        harness.run(check, [memory.thread(room + "s", "t").working_memory for memory in memories])

    def test_slots_that_differ_anywhere_are_documents_of_their_own(self, harness: Harness) -> None:
        """Documents of one thread or resource whose slots are alike but for one place, anywhere, are documents of their
        own: each has its own versions, conditions and body, is removed alone, and is shown in a list where it is asked
        for. Slots that are easily taken for one are put in both orders, and families of slots are drawn as those of ids
        are. Every answer is compared with the reference model's.
        """

        async def check(family: tuple[str, ...]) -> None:
            one, two = await harness.reused(2)
            scope, model = Thread(harness.fresh() + "r", "t"), Model()
            resource = Resource(scope.resource_id)

            async def put(puts: Sequence[Put]) -> None:
                # A commit has some dozens of documents at most; see law 11.
                for start in range(0, len(puts), 20):
                    part = tuple(puts[start : start + 20])
                    await agree(
                        harness, one, model, "commit", scope, appending(harness, START, puts=part, resource_puts=part)
                    )
                await agree(harness, two, model, "load", scope, ALL)

            await put([Put(slot, f"{number}", 0) for number, slot in enumerate(family)])
            await put([Put(slot, f'"{number} again"', 1) for number, slot in enumerate(family[::2])])
            await put([Put(slot, None) for slot in family[::3]])
            for asked in (family[::2], family[1::2], family[:1], family):
                await agree(harness, two, model, "threads", resource, None, 9, "created", asked)
            refused = appending(harness, START, puts=tuple(Put(slot, "1", 3) for slot in family[:3]))
            await agree(harness, one, model, "commit", scope, refused)
            await agree(harness, two, model, "load", resource)

        async def twins() -> None:
            _, ones, others = zip(*harness.some(TWINS, kind=itemgetter(0)), strict=True)
            for family in ((*ones, *others), (*others, *ones)):
                await check(tuple(dict.fromkeys(family)))

        harness.run(twins)
        harness.explore(drawn_ids(harness), check, share=0.5)

    def test_very_many_documents_are_each_kept(self, harness: Harness) -> None:
        """A thread and a resource with more documents than a backend's batch keep each of them: in a load, in a list
        that asks for some and for all, in their versions, and when every second was removed. They are written in
        commits of some dozens.
        """

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            scope, model = Thread(harness.fresh() + "r", "t"), Model()
            resource = Resource(scope.resource_id)
            slots = [f"slot{number}" for number in range(large.size(harness, min(300, harness.profile.records)))]
            for turn, chosen in enumerate((slots, slots[::2], slots[::3])):
                for start in range(0, len(chosen), 20):
                    body = None if turn == 1 else f"{start}"
                    puts = tuple(Put(slot, body) for slot in chosen[start : start + 20])
                    changes = appending(harness, START, puts=puts, resource_puts=puts)
                    await agree(harness, one, model, "commit", scope, changes)
                await agree(harness, two, model, "load", scope, ALL)
                await agree(harness, two, model, "load", resource)
                for asked in (slots, slots[1::2], slots[-3:]):
                    await agree(harness, two, model, "threads", resource, None, 9, "active", tuple(asked))

        harness.run(check)

    def test_versions_go_on_after_a_restart(self, harness: Harness) -> None:
        """Who opens a place anew goes on with the versions of its documents, also of those that were removed: with a
        new handle after all others were closed, where the store keeps what it has then, and in a new process. Clauses
        `processes`, `durability`.
        """

        def stage(scope: Thread, number: int) -> list[Given]:
            puts = (Put("kept", f"{number}"), Put("removed", f"{number}", 2 * number))
            changes = appending(harness, START, puts=puts, resource_puts=puts)
            gone = (Put("removed", None),)
            removal = appending(harness, START, puts=gone, resource_puts=gone)
            look = Given("load", (scope, ALL))
            return [look, Given("commit", (scope, changes)), Given("commit", (scope, removal)), look]

        through_restarts(harness, lambda resource, number: stage(Thread(resource.resource_id, "t"), number))

    @least(commits=5, loads=5)
    def test_programs_of_puts_answer_as_the_model(self, harness: Harness) -> None:
        """Random puts with and without conditions, in threads and resources, beside appends and deletions, are answered
        as by the reference model.
        """

        async def check(program: Program) -> None:
            await compare(harness, program)

        harness.explore(programs(("puts", "resource"), harness.profile.steps), check, share=0.5)
        kinds: Kinds = ("append", "puts", "resource", "delete", "erase")
        harness.explore(programs(kinds, harness.profile.steps), check, share=0.5)


def _merged(value: Any, patch: Any) -> Any:
    """The pseudocode of RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = {} if not isinstance(value, dict) else dict(value)
    for key in patch:
        if patch[key] is None:
            result = {kept: item for kept, item in result.items() if kept != key}
        else:
            result = {**result, key: _merged(result.get(key), patch[key])}
    return result
