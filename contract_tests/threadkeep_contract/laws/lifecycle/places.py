"""The checks of law 12 on places that are taken away under open stores. A plugin says so by `replace_place`."""

from __future__ import annotations

from collections.abc import Sequence

from threadkeep.errors import StoreDamaged
from threadkeep.port import Changes, Put, Thread, new_place, replace_place
from threadkeep_contract.evidence import least
from threadkeep_contract.harness import Harness, Law, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.laws.lifecycle.common import verbs
from threadkeep_contract.reference.beside import agree
from threadkeep_contract.reference.looks import look_everywhere
from threadkeep_contract.reference.model import Model


class Places(Law):
    """Places that are not what they were."""

    @least(outages=True)
    def test_a_place_that_was_taken_away_is_refused(self, harness: Harness) -> None:
        """Where what a store keeps its data in was deleted, every verb on a handle that was open is `StoreDamaged`,
        each time: nothing is acknowledged that nobody else will see. So it stays when another store has begun anew at
        the same place, and that one is not touched. Where the plugin has no hook `replace_place` or `new_place`, the
        report says NOT OFFERED.
        """
        _lost(harness, replaced=False)

    @least(outages=True)
    def test_a_place_that_was_replaced_is_refused(self, harness: Harness) -> None:
        """Where something else was put in its place, such as a backup, the same: no handle that was open before reads
        it or writes to it. A handle that is opened anew finds what is there, and nothing else.
        """
        _lost(harness, replaced=True)


def _lost(harness: Harness, *, replaced: bool) -> None:
    url, by = new_place(harness.url), new_place(harness.url)
    if url is None or by is None:
        harness.decline("lost places", "the plugin has no new_place hook, so no place could be taken away")
        return
    place, other = harness.beside(url), harness.beside(by)
    # What is put in its place has the same thread with other messages: a copy of another moment.
    thread, model = Thread(place.fresh() + "user", "thread"), Model()

    async def fill() -> None:
        handle = await other.open()
        await agree(other, handle, model, "commit", thread, _changes(other, "theirs"))
        await handle.close()

    async def run() -> None:
        idle, used = await place.open(), await place.open()
        await used.commit(thread, _changes(place, "ours"))
        for name, verb in verbs(place, thread).items():
            if name != "delete":
                await verb(used)
        if not replace_place(url, by if replaced else None):
            what = "the plugin has no replace_place hook, so no place was taken away"
            harness.decline("lost places", what)
            return
        await _refused(place, [idle, used], thread, "taken away")
        new = await place.open()
        if not replaced:
            await agree(place, new, model, "commit", thread, _changes(place, "theirs"))
        await look_everywhere(place, [new], [thread], ["ours", "theirs"], model)
        await _refused(place, [idle, used], thread, "taken away and opened anew by others")
        await agree(place, new, model, "commit", thread, Changes(2, place.epoch(), (record("more"),)))
        for handle in (idle, used):
            await handle.close()
        await look_everywhere(place, [new, await place.open()], [thread], ["ours", "theirs", "more"], model)

    try:
        if replaced:
            other.run(fill)
        place.run(run)
    finally:
        other.close()
        place.close()


def _changes(place: Harness, name: str) -> Changes:
    return Changes(1, place.epoch(), (record(name),), (Put("d", f'"{name}"'),), (Put("r", f'"{name}"'),))


async def _refused(place: Harness, handles: Sequence[Recorded], thread: Thread, what: str) -> None:
    for name, verb in verbs(place, thread).items():
        if name == "open":
            continue
        promise = f"{name} is StoreDamaged where the place was {what}"
        for handle in handles:
            await place.refused(promise, StoreDamaged, verb(handle))
            await place.refused(f"{promise}, again", StoreDamaged, verb(handle))
