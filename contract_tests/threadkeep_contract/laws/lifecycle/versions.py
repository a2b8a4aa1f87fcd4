"""The checks of law 12 on places that another version of the store has made. A plugin says so by `shift_version`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from threadkeep.errors import StoreError, StoreTooNew, StoreTooOld
from threadkeep.port import Changes, Put, Thread, new_place, shift_version
from threadkeep_contract.evidence import least
from threadkeep_contract.harness import Harness, Law, record
from threadkeep_contract.laws.lifecycle.common import verbs
from threadkeep_contract.reference.beside import agree
from threadkeep_contract.reference.looks import look_everywhere
from threadkeep_contract.reference.model import Model

NEWER = (1, 2, 1000)
OLDER = (-1,)
"""How many versions newer a place is. The first version has only one that is older, and so have all others."""


class Versions(Law):
    """Places of other versions."""

    @least(outages=True)
    def test_a_place_of_a_newer_version_is_refused_and_left_alone(self, harness: Harness) -> None:
        """A place that says that a newer version made it is refused with `StoreTooNew`, by opening and by a first call
        of every verb, each time; once it says what it said before, everything is there as it was. Where the plugin has
        no hook `shift_version` or `new_place`, the report says NOT OFFERED.
        """
        _refused(harness, StoreTooNew, NEWER)

    @least(outages=True)
    def test_a_place_of_an_older_version_is_refused_and_left_alone(self, harness: Harness) -> None:
        """A place that says that an older version made it is refused with `StoreTooOld`, in the same way, and nothing
        in it is made anew.
        """
        _refused(harness, StoreTooOld, OLDER)


def _refused(harness: Harness, kind: type[StoreError], steps: Sequence[int]) -> None:
    url = new_place(harness.url)
    if url is None:
        harness.decline("other versions", "the plugin has no new_place hook, so no place could say another version")
        return
    place = harness.beside(url)

    async def run() -> None:
        handle, model = await place.open(), Model()
        if not shift_version(url, 0):
            harness.decline("other versions", "the plugin has no shift_version hook, so no place said another version")
            return
        thread = Thread(place.fresh() + "user", "thread")
        changes = Changes(1, place.epoch(), (record("m0"), record("m1")), (Put("d", "1"),), (Put("r", "1"),))
        await agree(place, handle, model, "commit", thread, changes)
        for by in steps:
            with _shifted(url, by):
                for name, verb in verbs(place, thread).items():
                    promise = f"{name} on a place of another version is {kind.__name__}"
                    new = place.handle()
                    await place.refused(promise, kind, verb(new))
                    await place.refused(f"{promise}, again", kind, verb(new))
            await look_everywhere(place, [handle, await place.open()], [thread], ["m0", "m1"], model)

    try:
        place.run(run)
    finally:
        place.close()


@contextmanager
def _shifted(url: str, by: int) -> Iterator[None]:
    """While the place says that it is so many versions newer."""
    shift_version(url, by)
    try:
        yield
    finally:
        shift_version(url, -by)
