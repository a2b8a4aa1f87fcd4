"""Scripts of faults that show with large or odd input: sizes, and what ids, slots, cursors and ties are taken for."""

from __future__ import annotations

from typing import Final

from script_calls import ALICE, ALL, OF_ALICE, Open, Script, docs_of, ended, ids, say, say_many

from threadkeep.port import After, Changes, Put, Record, Thread, Window

# Sizes


async def _far_repeat(at: Open) -> object:
    store = at()
    await say_many(store, ALICE, 600)
    await say(store, ALICE, "m0")
    return len(await ids(store, ALICE))


async def _long_repeat(at: Open) -> object:
    store = at()
    await say_many(store, ALICE, 60)
    await say_many(store, ALICE, 60)
    return len(await ids(store, ALICE))


async def _many_threads(at: Open) -> object:
    store = at()
    for number in range(1001):
        await say(store, Thread("alice", f"t{number:04}"), at=number)
    first = await store.threads(OF_ALICE, limit=1000)
    rest = await store.threads(OF_ALICE, After(first[-1].created, first[-1].thread_id), limit=1000)
    await store.delete(OF_ALICE)
    return len(first), len(rest), len(await store.threads(OF_ALICE))


async def _many_resources(at: Open) -> object:
    store = at()
    for number in range(501):
        await say(store, Thread(f"user {number:03}", "t"))
    return len(await store.resources(limit=1000))


async def _many_records(at: Open) -> object:
    store = at()
    await say_many(store, ALICE, 1100)
    far = await ids(store, ALICE, Window("m10", after=2)), len(await ids(store, ALICE))
    await say(store, ALICE, drop_after=10)
    return far, len(await ids(store, ALICE))


async def _large_records(at: Open) -> object:
    store = at()
    for number in range(3):
        await store.commit(ALICE, Changes(1, "e", (Record(f"m{number}", "1", f'"{"x" * 600_000}"'),)))
    return len(await ids(store, ALICE))


async def _large_thread(at: Open) -> object:
    store = at()
    body = f'"{"x" * 1_000_000}"'
    return [await ended(store.commit(ALICE, Changes(1, "e", (Record(f"m{n}", "1", body),)))) for n in range(18)]


async def _many_slots(at: Open) -> object:
    store = at()
    slots = [f"slot {number:03}" for number in range(101)]
    await say(store, ALICE, puts=tuple(Put(slot, "1") for slot in slots))
    (row,) = await store.threads(OF_ALICE, slots=slots)
    return len((await store.load(ALICE, ALL)).docs), len(row.docs)


async def _wide_characters(at: Open) -> object:
    store = at()
    await store.commit(ALICE, Changes(1, "e", (Record("m1", "1", f'"{"é" * 40_000}"'),)))
    return [(len(stored.body), stored.at) for stored in (await store.load(ALICE, ALL)).records]


# What ids, slots, cursors and ties are taken for


async def _ids_that_look_alike(at: Open) -> object:
    store = at()
    return [await ended(say(store, ALICE, name)) for name in ("m", "M", "m ", "\u00e9", "e\u0301")]


async def _digests_that_begin_alike(at: Open) -> object:
    store = at()
    await store.commit(ALICE, Changes(1, "e", (Record("m1", "12345678a", '"a"'),)))
    return await ended(store.commit(ALICE, Changes(1, "e", (Record("m1", "12345678b", '"b"'),))))


async def _tied_threads(at: Open) -> object:
    store = at()
    for name in ("b", "a", "C", "\U0001f600", "\uff5e"):
        await say(store, Thread("alice", name), at=0)
        await say(store, Thread(name, "t"))
    created, active = [await store.threads(OF_ALICE, order=order) for order in ("created", "active")]
    walked = await store.threads(OF_ALICE, After(0, "a"))
    unlisted = await store.threads(OF_ALICE, After(0, "B"))
    return [[row.thread_id for row in rows] for rows in (created, active, walked, unlisted)], await store.resources()


async def _anchors(at: Open) -> object:
    store = at()
    await say(store, ALICE, "3", "m22", "2")
    windows = (Window("2", 1, 1), Window("3", 1, 1), Window(0, 5), Window("m2", 1, 1))
    return [await ids(store, ALICE, window) for window in windows]


async def _odd_slots(at: Open) -> object:
    store = at()
    await say(store, ALICE, puts=(Put("a.b", "1"), Put("A", "2"), Put("a,b", "3")))
    await say(store, ALICE, puts=(Put("a", "4"),))
    (row,) = await store.threads(OF_ALICE, slots=("a,b",))
    return await docs_of(store, ALICE), {**row.docs}


async def _drop_everything(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1")
    await say(store, ALICE, drop_after=0)
    return await ids(store, ALICE)


async def _puts(at: Open) -> object:
    store = at()
    return [(await say(store, ALICE, puts=(Put("title", "1"),))).versions for _ in range(5)]


SCRIPTS: Final[dict[str, Script]] = {
    "repeat-known-among-newest-500": _far_repeat,
    "known-ids-asked-for-first-50": _long_repeat,
    "digests-compared-by-prefix": _digests_that_begin_alike,
    "record-ids-without-case": _ids_that_look_alike,
    "record-ids-padded-with-spaces": _ids_that_look_alike,
    "record-ids-normalised": _ids_that_look_alike,
    "chunk-cuts-a-character": _wide_characters,
    "times-of-the-server": _wide_characters,
    "threads-beyond-1000-not-listed": _many_threads,
    "resources-beyond-500-not-listed": _many_resources,
    "anchor-among-newest-500": _many_records,
    "window-over-1-mib-cut": _large_records,
    "window-of-at-most-1000": _many_records,
    "list-gives-ten-slots": _many_slots,
    "large-pages-lose-a-row": _many_threads,
    "ties-listed-by-insertion": _tied_threads,
    "active-ties-rising": _tied_threads,
    "ties-broken-by-collation": _tied_threads,
    "resources-listed-by-utf-16": _tied_threads,
    "cursor-must-be-listed": _tied_threads,
    "cursor-at-zero-starts-over": _tied_threads,
    "numeric-id-is-position": _anchors,
    "anchor-zero-is-the-end": _anchors,
    "anchor-found-by-prefix": _anchors,
    "slots-joined-with-commas": _odd_slots,
    "slots-without-case": _odd_slots,
    "slots-are-paths": _odd_slots,
    "documents-beyond-100-not-loaded": _many_slots,
    "commit-sent-twice": _puts,
    "erase-first-500-threads": _many_threads,
    "drop-first-500-records": _many_records,
    "drop-after-zero-ignored": _drop_everything,
    "thread-over-16-mib-fails": _large_thread,
}
