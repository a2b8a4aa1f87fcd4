"""Law 5: concurrency.

Operations on one thread are linearizable, from many tasks, many store instances, many processes.

`if_tail=t` appends only if the tail, epoch and position, is still t; of many racing writers with the same t exactly one
wins and the others get `TailMoved` with the new tail, having written nothing. A truncation moves the tail too. Without
`if_tail`, N writers x M appends leave exactly N*M batches, each writer's in its own order. First use is safe in a race:
two writers creating the same thread, or the schema itself, both succeed.

Each race runs twice: with many tasks on three handles, and with three or more processes, which need the clause
`processes`, and of which not all have the same seed of `hash()`. The contenders of a race all begin at one moment.
After each race all views of what was raced for are compared with each other, through every handle: loads, the windows
around ids and positions, both lists, documents and `resources()`. Loops of compare-and-set are bounded: a sound store
refuses one attempt only where another writer's succeeded. `StoreUnavailable`, which says that nothing was written, is
answered by the same call again for ten seconds.
"""

from __future__ import annotations

from threadkeep_contract.evidence import least
from threadkeep_contract.harness import Harness
from threadkeep_contract.laws.concurrency import contests, resources
from threadkeep_contract.laws.concurrency.first_opening import FirstOpening
from threadkeep_contract.laws.concurrency.pairs import check_pairs
from threadkeep_contract.laws.concurrency.schedules import Race, check_race, races
from threadkeep_contract.races.contenders import by_processes, by_tasks
from threadkeep_contract.races.linearizability import check_histories
from threadkeep_contract.races.threads import by_threads


class Concurrency(FirstOpening):
    """Operations on one thread are linearizable, from many tasks, many store instances, many processes."""

    number = 5
    title = "Concurrency"

    @least(commits=10, loads=10, deletions=2)
    def test_a_tail_that_was_is_refused(self, harness: Harness) -> None:
        """A tail that a thread once had, and has no more, is refused with the tail that is, and nothing is written.
        Every tail and every epoch of a thread that is appended to, truncated, deleted and made again is tried at every
        later moment.
        """
        harness.run(contests.stale, harness)

    @least(commits=2, races=2, outages=True)
    def test_of_tasks_with_one_tail_exactly_one_wins(self, harness: Harness) -> None:
        """Of many tasks that commit with one `if_tail` exactly one gets a receipt. All others get `TailMoved` with the
        winner's tail, and the messages and documents are the winner's alone. The thread is missing, filled, emptied, or
        deleted and made again.
        """
        by_tasks(harness, contests.one_tail)

    @least(commits=2, races=2, outages=True)
    def test_a_truncation_moves_the_tail_for_tasks(self, harness: Harness) -> None:
        """Of many tasks that append or truncate with one `if_tail` exactly one wins, and the thread is what that one
        made of it.
        """
        by_tasks(harness, contests.tail_against_truncation)

    @least(commits=2, races=2, outages=True)
    def test_of_tasks_that_create_a_thread_exactly_one_does(self, harness: Harness) -> None:
        """Of many tasks that commit with `if_epoch=""` exactly one creates the thread, in its epoch and at its time.
        All others get `TailMoved` with the winner's tail.
        """
        by_tasks(harness, contests.create)

    @least(commits=4, races=1, outages=True)
    def test_tasks_may_all_be_first_in_a_thread(self, harness: Harness) -> None:
        """Tasks that all make the first commit to a thread, without a condition, all succeed. The thread is there once,
        in the epoch and with the `created` of one of them, and with the messages of all.
        """
        by_tasks(harness, contests.get_or_create)

    @least(commits=4, races=1, outages=True)
    def test_appends_of_many_tasks_are_all_there(self, harness: Harness) -> None:
        """N tasks that make M commits of three messages each leave exactly N*M batches. Each batch is adjacent and at
        the positions of its receipt, each writer's batches are in its order, and positions rise.
        """
        by_tasks(harness, contests.appends)

    @least(commits=4, races=1, outages=True)
    def test_one_message_from_many_tasks_is_stored_once(self, harness: Harness) -> None:
        """A message that many tasks append at the same time is stored once, and all learn its place. Of many bodies
        under one id one is stored, and the others are a `MessageConflict` that writes nothing.
        """
        by_tasks(harness, contests.same_message)

    @least(commits=2, races=2, outages=True)
    def test_of_tasks_with_one_version_exactly_one_wins(self, harness: Harness) -> None:
        """Of many tasks that put a document with one `if_version` exactly one wins. All others get `VersionMoved` with
        the new version, and nothing of their commits is written. Documents of the thread and of the resource are tried.
        """
        by_tasks(harness, contests.one_version)

    @least(commits=4, races=1, outages=True)
    def test_documents_keep_the_changes_of_many_tasks(self, harness: Harness) -> None:
        """Tasks that each load a document, add to it and put it with `if_version`, until that succeeds, lose no change,
        in the thread and in the resource.
        """
        by_tasks(harness, contests.counters)

    @least(commits=4, races=1, outages=True)
    def test_tasks_append_on_the_tail_they_loaded(self, harness: Harness) -> None:
        """Tasks that each load the tail and append on it with `if_tail`, until that succeeds, get every message in
        once, each writer's in its own order.
        """
        by_tasks(harness, contests.chains)

    @least(commits=4, races=1, outages=True)
    def test_messages_and_documents_do_not_undo_each_other_in_tasks(self, harness: Harness) -> None:
        """Tasks of which some append, and others put a document each, undo nothing of what another does."""
        by_tasks(harness, contests.messages_beside_documents)

    @least(commits=2, loads=0, races=1, outages=True)
    def test_tasks_may_open_the_store_at_once(self, harness: Harness) -> None:
        """Tasks that open the store on new handles and use it, all at the same time, are all served."""
        by_tasks(harness, contests.first_use)

    @least(commits=10, loads=4, deletions=1, races=4, outages=True)
    def test_histories_of_tasks_are_linearizable(self, harness: Harness) -> None:
        """Random calls of four tasks on one thread (loads, commits with all kinds of conditions, truncations,
        deletions) are answered as the reference model answers them in some order of the calls that respects which had
        ended when which began. The order is found by the search of Wing and Gong (1993).
        """
        by_tasks(harness, check_histories)

    def test_threads_race_as_tasks_do(self, harness: Harness) -> None:
        """Operating system threads, each with an event loop of its own, race on two handles that they share, as tasks
        do: for one tail, to create a thread, with the same message, at one version, and with appends. Their random
        calls on one thread are linearizable.
        """
        by_threads(
            harness,
            *(contests.one_tail, contests.create, contests.get_or_create, contests.same_message),
            *(contests.one_version, contests.appends, check_histories),
        )

    def test_histories_of_tasks_on_resources_are_linearizable(self, harness: Harness) -> None:
        """Random calls of four tasks on the threads of two resources are answered in some order, as above: commits to
        threads and resources, loads of windows by position and by id, pages of threads in both orders from any place,
        with any slots and limits, pages of `resources()`, deletions and erasures. What a list says of one thread or
        resource has to be so at some moment between its begin and its end. Its rows are in order, within its bounds,
        and have a thread once. Afterwards all views agree with each other.
        """
        by_tasks(harness, resources.check_histories)

    def test_two_calls_on_a_resource_are_linearizable(self, harness: Harness) -> None:
        """Any two calls on one resource, of which the second begins 0 to 4 turns of the event loop after the first, are
        answered as in one order or the other, and afterwards all views agree. Each write meets each write and each
        read: commits to one thread, to its resource's documents too, to another thread, truncations, puts, deletions,
        erasures; loads and both kinds of lists; on a thread that is there and on one that is not. Half of the
        combinations are tried; the seed says which.
        """
        harness.run(check_pairs, harness)

    @least(commits=10, loads=4, deletions=1, lists=4, outages=True)
    def test_scheduled_calls_on_a_resource_are_linearizable(self, harness: Harness) -> None:
        """Random calls of three tasks on two threads of one resource are answered in some order, as above, whichever
        task goes on from each place where one waits. The suite drives the calls itself: who goes on is drawn as the
        calls are, so that a race that fails is made of as few calls and switches between tasks as it needs, and is
        printed as an ordered history that runs again. Where calls wait for nothing, or for a thread or a server, what
        they wait for comes before the next one goes on; a task that waits for a lock of another lets it go on.
        """

        async def check(race: Race) -> None:
            await check_race(harness, race)

        harness.explore(races(), check, share=3)

    def test_tasks_walk_through_lists_that_change(self, harness: Harness) -> None:
        """Walks through the threads of a resource, in both orders and page by page, find every thread that nobody
        touches exactly once, unchanged and in order, while tasks commit to other threads, make new ones and delete
        some. No thread is found at two places but one that was deleted and made again. A walk by creation also finds
        every thread that is committed to.
        """
        by_tasks(harness, resources.check_walks)

    def test_tasks_that_meet_in_several_scopes_all_end(self, harness: Harness) -> None:
        """Commits that write documents of a thread and of its resource, commits to the resource, deletions, erasures
        and lists, made by many tasks at once and in opposite orders, all end and are all served: none waits for another
        for ever, and none is refused for another's sake.
        """
        by_tasks(harness, resources.check_meetings)

    @least(commits=8, overlaps=2, races=4, outages=True)
    def test_processes_race_for_a_tail_and_for_a_thread(self, harness: Harness) -> None:
        """Processes race as the tasks do for one tail, with appends and with truncations, and to create a thread, with
        `if_epoch=""` and without it. Clause `processes`.
        """
        by_processes(
            harness, contests.one_tail, contests.tail_against_truncation, contests.create, contests.get_or_create
        )

    @least(commits=8, overlaps=2, races=4, outages=True)
    def test_processes_append_and_lose_nothing(self, harness: Harness) -> None:
        """Processes append as the tasks do, without a condition, the same messages, on the tail just loaded, and beside
        others that put documents: nothing is lost, doubled or undone. Clause `processes`.
        """
        by_processes(
            harness, contests.appends, contests.same_message, contests.chains, contests.messages_beside_documents
        )

    @least(commits=4, overlaps=1, races=2, outages=True)
    def test_processes_race_for_versions_and_lose_nothing(self, harness: Harness) -> None:
        """Processes put documents as the tasks do, at one version and in loops of compare-and-set, and lose no change.
        Clause `processes`.
        """
        by_processes(harness, contests.one_version, contests.counters)

    @least(commits=10, overlaps=2, races=4, outages=True)
    def test_processes_open_the_store_at_once_and_are_linearizable(self, harness: Harness) -> None:
        """Processes open the store as the tasks do, all at the same time, and their random calls on one thread are
        linearizable. Clause `processes`.
        """
        by_processes(harness, contests.first_use, check_histories)

    def test_processes_work_on_resources_and_their_lists(self, harness: Harness) -> None:
        """Processes make random calls on the threads and lists of two resources that are linearizable, change lists
        that are walked, and meet in several scopes, all as the tasks do. Clause `processes`.
        """
        by_processes(harness, resources.check_histories, resources.check_walks, resources.check_meetings)
