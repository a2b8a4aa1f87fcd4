"""What a commit lacks before it can be decided, and what it then does; nothing here asks a server (laws 2, 3, 4)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from threadkeep.errors import MessageConflict, TailMoved, VersionMoved
from threadkeep.port import Changes, Put, Record, Resource, Tail, Thread
from threadkeep_adapters.dynamodb.layout import Cut, Head, Heads, Kept, Pack, RecordPlace, ResourceHead, id_hash
from threadkeep_adapters.dynamodb.plan import PENDING, RANGES, HeadsAre, IdsAre, Lack, Plan, Seen, plan_commit

THREAD = Thread("user", "thread")
OTHER_TAIL = Tail("epoch", 3)

HEAD = Head(b"m", epoch="epoch", position=5, newest=5, created=1, active=1, docs={"a": Kept(2, "1")})
RESOURCE = ResourceHead(b"r", threads=1, docs={"b": Kept(1, "1")})


def seen(head: Head = HEAD, resource: ResourceHead = RESOURCE, **known: Any) -> Seen:
    return Seen(Heads(head, resource), **{"heads_are": HeadsAre.READ, **known})


def appending(*ids: str, **conditions: Any) -> Changes:
    return Changes(at=2, epoch="new", append=tuple(Record(one, "d", "1") for one in ids), **conditions)


def waiting(count: int) -> dict[bytes, RecordPlace]:
    return {id_hash(f"waiting {number}"): RecordPlace(number, "d") for number in range(count)}


DROPPED = tuple((2 * number, 2 * number) for number in range(10, 11 + RANGES))


@pytest.mark.parametrize(
    ("known", "changes", "lack"),
    [
        (seen(resource=replace(RESOURCE, erasure=b"e")), appending("x"), Lack.ERASURE),
        (seen(Head(b"m", is_gone=True)), appending("x"), Lack.REMOVAL),
        (seen(heads_are=HeadsAre.REMEMBERED), appending("x", if_tail=OTHER_TAIL), Lack.HEADS),
        (seen(heads_are=HeadsAre.REMEMBERED), appending(puts=[Put("a", "2", 1)]), Lack.HEADS),
        (seen(), appending("x", if_tail=OTHER_TAIL), Lack.IDS),
        (seen(), appending("x", puts=[Put("a", "2", 1)]), Lack.IDS),
        (seen(replace(HEAD, pending=waiting(PENDING))), appending("x"), Lack.SETTLING),
        (seen(replace(HEAD, dead=DROPPED)), appending("x", drop_after=2), Lack.SWEEP),
        (seen(replace(HEAD, dead=DROPPED), is_swept=True), appending("x", drop_after=2), Lack.END),
        (seen(), appending("x", drop_after=2), Lack.END),
        (seen(), appending(*map(str, range(100))), Lack.ROOM),
    ],
)
def test_a_commit_names_what_it_lacks(known: Seen, changes: Changes, lack: Lack) -> None:
    assert plan_commit(THREAD, known, changes) is lack


@pytest.mark.parametrize(
    ("known", "changes", "error"),
    [
        (seen(ids_are=IdsAre.LOOKED_UP), appending("x", if_tail=OTHER_TAIL), TailMoved),
        (seen(), appending("x", if_epoch="another"), TailMoved),
        (seen(), appending(puts=[Put("a", "2", 1)]), VersionMoved),
        (seen(), appending(resource_puts=[Put("b", "2", 2)]), VersionMoved),
        (seen(places={"x": RecordPlace(4, "other")}), appending("x", "y"), MessageConflict),
    ],
)
def test_a_commit_is_refused_on_heads_that_were_read(known: Seen, changes: Changes, error: type[Exception]) -> None:
    with pytest.raises(error):
        plan_commit(THREAD, known, changes)


def test_a_resource_is_refused_on_heads_that_were_read_only() -> None:
    changes = appending(puts=[Put("b", "2", 2)])
    scope = Resource("user")
    assert plan_commit(scope, seen(Head(), heads_are=HeadsAre.REMEMBERED), changes) is Lack.HEADS
    with pytest.raises(VersionMoved):
        plan_commit(scope, seen(Head()), changes)


def test_a_repetition_answers_where_its_records_are() -> None:
    """Law 2: whatever tail it names, since all of it is there."""
    known = seen(places={"x": RecordPlace(4, "d"), "y": RecordPlace(5, "d")})
    plan = plan_commit(THREAD, known, appending("x", "y", if_tail=OTHER_TAIL))
    assert isinstance(plan, Plan)
    assert plan.receipt.positions == [4, 5]
    assert plan.receipt.tail == HEAD.tail


def test_ids_that_find_no_room_wait_in_the_head() -> None:
    known = seen(ids_are=IdsAre.LOOKED_UP)
    plan = plan_commit(THREAD, known, appending(*map(str, range(100))))
    assert isinstance(plan, Plan)
    assert len(plan.transaction.actions) == 100
    assert len(plan.transaction.ids) + len(plan.transaction.heads.thread.pending) == 100
    assert not HEAD.pending


def test_a_truncation_drops_what_stands_above_its_end() -> None:
    pack = Pack(2, "epoch", [])
    plan = plan_commit(THREAD, seen(cut=Cut(3, pack)), appending("x", drop_after=3))
    assert isinstance(plan, Plan)
    assert plan.receipt.tail == Tail("epoch", 6)
    assert plan.transaction.heads.thread.dead == ((4, 5),)
    assert (HEAD.position, HEAD.dead) == (5, ())
