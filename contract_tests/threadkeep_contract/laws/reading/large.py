"""The checks of law 8 on what is large: very long threads, very many threads, very many resources."""

from __future__ import annotations

from collections.abc import Sequence

from threadkeep.port import MAX_PAGE, After, Order, Resource, Thread, Window
from threadkeep_contract import large
from threadkeep_contract.evidence import least
from threadkeep_contract.harness import ALL, Harness, Law, ids_of
from threadkeep_contract.inputs.confusable import just_before
from threadkeep_contract.reference.beside import ORDERS
from threadkeep_contract.walks import place


class Large(Law):
    """Windows and lists of large places."""

    def test_a_very_long_thread_reads_whole_and_in_every_window(self, harness: Harness) -> None:
        """A thread of thousands of messages comes back whole in one load, with every body, and each window of it shows
        what it should. Windows are drawn at positions, ids and the end, near and far back, with small counts and with
        counts of hundreds and thousands on both sides.
        """

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            scope, drawn = Thread(harness.fresh() + "r", "t"), large.chance(harness)
            made = await large.long_thread(harness, one, scope, large.size(harness, harness.profile.records))
            found = (await two.load(scope, ALL)).records
            seen = [(entry.position, entry.id, entry.body) for entry in found]
            expected = [(place, each.id, each.body) for place, each in enumerate(made, 1)]
            harness.require(
                "every message is there, whole and in order", seen == expected, "all", _gaps(expected, seen)
            )
            for number in range(24):
                at = drawn.choice(
                    (drawn.randrange(len(made)), drawn.randrange(40), len(made) - 1 - drawn.randrange(40))
                )
                anchor = (at + 1, made[at].id, None)[number % 3]
                cut = len(made) if anchor is None else at
                before, after = (drawn.choice((0, 1, drawn.randrange(len(made)), 10**6)) for _ in range(2))
                window = Window(anchor, before, after)
                records = (await two.load(scope, window)).records
                which = [each.id for each in made[max(0, cut - before) : cut if anchor is None else cut + after]]
                promise = f"{window} of {len(made)} messages shows what it should"
                harness.require(promise, which == ids_of(records), f"{len(which)}", _gaps(which, ids_of(records)))

        large.run(harness, check)

    @least(commits=12, loads=0, lists=4)
    def test_very_many_threads_are_listed_from_anywhere(self, harness: Harness) -> None:
        """A resource of far more threads than a page holds, several of one instant, is listed whole in both orders, in
        the largest pages and in pages of a size that is drawn, with the documents asked for. A page that begins after
        any thread, or between any two, goes on from there.
        """

        async def check() -> None:
            handles = [await harness.open(), await harness.open()]
            resource, drawn = Resource(harness.fresh() + "r"), large.chance(harness)
            count = large.size(harness, harness.profile.scopes)
            made = await large.many_threads(harness, handles, resource, count)

            async def walk(order: Order, limit: int) -> list[tuple[int, str, str]]:
                rows: list[tuple[int, str, str]] = []
                after: After | None = None
                while True:
                    page = await handles[0].threads(resource, after, limit, order, ("info",))
                    rows += [(row.created, row.thread_id, row.docs["info"].body or "") for row in page]
                    if len(page) < limit:
                        return rows
                    after = place(page[-1], order)

            for order in ORDERS:
                expected = [*made] if order == "created" else made[::-1]
                for limit in (MAX_PAGE, drawn.randrange(50, 400)):
                    seen = await walk(order, limit)
                    promise = f"every one of {count} threads by {order}, {limit} a page"
                    harness.require(promise, expected == seen, "each once, in order", _gaps(expected, seen))
                for _ in range(8):
                    at = drawn.randrange(count)
                    begin = After(expected[at].created, expected[at].thread_id)
                    if drawn.randrange(2):
                        # Before every thread of its instant by creation, and after every one by activity.
                        begin = After(begin.at, "\x01")
                    keys = [(one.created, one.thread_id) for one in expected]
                    rest = [key[1] for key in keys if (key > begin if order == "created" else key < begin)][:20]
                    page = await handles[1].threads(resource, begin, 20, order)
                    harness.expect(f"threads by {order} after {begin}", rest, [row.thread_id for row in page])

        large.run(harness, check)

    @least(commits=12, loads=0, lists=2)
    def test_very_many_resources_are_listed(self, harness: Harness) -> None:
        """Of very many resources, each with a thread or a document, every one is listed once, by code point, in the
        largest pages and in pages of a size that is drawn.
        """

        async def check() -> None:
            handles = [await harness.open(), await harness.open()]
            room = harness.fresh()
            expected = await large.many_resources(harness, handles, room, large.size(harness, harness.profile.scopes))
            for limit in (MAX_PAGE, large.chance(harness).randrange(50, 400)):
                found: list[str] = []
                while True:
                    page = await handles[0].resources(found[-1] if found else just_before(room), limit)
                    found += [resource_id for resource_id in page if resource_id.startswith(room)]
                    if len(page) < limit or not page[-1].startswith(room):
                        break
                promise = f"every one of {len(expected)} resources, {limit} a page"
                harness.require(promise, expected == found, "each once, by code point", _gaps(expected, found))

        large.run(harness, check)


def _gaps(expected: Sequence[object], seen: Sequence[object]) -> str:
    """Where two long lists differ first."""
    first = next(
        (number for number, (one, other) in enumerate(zip(expected, seen, strict=False)) if one != other),
        min(len(expected), len(seen)),
    )
    return f"{len(seen)} of {len(expected)}; the first difference is at {first}: {seen[first : first + 1]!r:.200}"
