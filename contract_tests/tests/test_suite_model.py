"""The reference model, by examples that can be checked by hand; programs are drawn as they are meant to be."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings

from threadkeep.errors import MessageConflict, TailMoved, VersionMoved
from threadkeep.port import MISSING, After, Changes, Doc, Put, Resource, Tail, Thread, Window
from threadkeep_contract.harness import record
from threadkeep_contract.inputs.operations import EVERYTHING, Commit, Program, catalogue, programs
from threadkeep_contract.reference.machine import imagine
from threadkeep_contract.reference.model import Model

T, U, R = Thread("r", "t"), Thread("r", "u"), Resource("r")


def filled(*names: str) -> Model:
    model = Model()
    model.commit(T, Changes(at=10, epoch="e", append=tuple(record(name) for name in names)))
    return model


def ids(model: Model, window: Window) -> str:
    return "".join(entry.id for entry in model.load(T, window).records)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (Window(before=2), "cd"),
        (Window(before=9), "abcd"),
        (Window(after=9), ""),
        (Window(3, before=1, after=1), "bc"),
        (Window(9, before=1, after=1), "d"),
        (Window(0, before=1, after=2), "ab"),
        (Window("b", before=9, after=2), "abc"),
        (Window("x", before=9, after=9), ""),
    ],
)
def test_windows(window: Window, expected: str) -> None:
    assert ids(filled("a", "b", "c", "d"), window) == expected


def test_a_repeat_gives_the_first_positions() -> None:
    model = filled("a", "b")
    changes = Changes(at=11, epoch="f", append=(record("b"), record("c"), record("a")), if_tail=Tail("e", 2))
    assert model.commit(T, changes).positions == [2, 3, 1]
    assert ids(model, Window(before=9)) == "abc"
    known = Changes(at=12, epoch="g", append=(record("a"),), if_tail=Tail("x", 9))
    assert model.commit(T, known).positions == [1]


def test_positions_go_on_after_a_truncation() -> None:
    model = filled("a", "b", "c")
    receipt = model.commit(T, Changes(at=11, epoch="f", drop_after=1, append=(record("c", "other"),)))
    assert (receipt.tail, receipt.positions) == (Tail("e", 4), [4])
    assert model.commit(T, Changes(at=11, epoch="f", drop_after=0)).tail == Tail("e", 0)


def test_refusals_change_nothing() -> None:
    model = filled("a")
    before = model.load(T, Window(before=9))
    for kind, changes in [
        (TailMoved, Changes(at=99, epoch="f", if_epoch="", append=(record("b"),))),
        (MessageConflict, Changes(at=99, epoch="f", append=(record("b"), record("a", "other")))),
        (TailMoved, Changes(at=99, epoch="f", append=(record("b"),), if_tail=MISSING)),
        (VersionMoved, Changes(at=99, epoch="f", append=(record("b"),), puts=(Put("s", "1"), Put("z", "1", 4)))),
        (VersionMoved, Changes(at=99, epoch="f", drop_after=0, resource_puts=(Put("s", "1", 1),))),
    ]:
        with pytest.raises(kind):
            model.commit(T, changes)
        assert model.load(T, Window(before=9)) == before


def test_documents_count_their_versions_and_end_with_their_scope() -> None:
    model = Model()
    assert model.commit(R, Changes(at=1, puts=(Put("s", "1"),))).versions == [1]
    assert model.commit(T, Changes(at=1, epoch="e", resource_puts=(Put("s", None),))).resource_versions == [2]
    assert model.load(R).resource_docs == {"s": Doc(2, None)}
    model.delete(T)
    assert model.resources() == ["r"]
    model.delete(R)
    assert model.resources() == []
    assert model.commit(T, Changes(at=1, epoch="f", puts=(Put("s", "1", 0),))).versions == [1]


def test_lists_are_total() -> None:
    model = Model()
    for thread_id, at in (("b", 1), ("a", 1), ("c", 0)):
        model.commit(Thread("r", thread_id), Changes(at=at, epoch=thread_id))
    model.commit(Thread("r", "c"), Changes(at=1, epoch="x"))
    assert [row.thread_id for row in model.threads(R)] == ["c", "a", "b"]
    assert [row.thread_id for row in model.threads(R, order="active")] == ["c", "b", "a"]
    assert [row.thread_id for row in model.threads(R, After(1, "a"))] == ["b"]
    assert [row.thread_id for row in model.threads(R, After(1, "b"), 1, "active")] == ["a"]


def test_the_catalogue_is_the_same_every_time_and_has_every_kind() -> None:
    every = catalogue(EVERYTHING)
    assert every == catalogue.__wrapped__(EVERYTHING)
    assert {type(operation).__name__ for operation in every} == {
        *("Commit", "PutResource", "Load", "LoadResource", "Delete", "Erase", "List")
    }
    appends = catalogue(("append",))
    assert not any(isinstance(one, Commit) and (one.puts or one.drop or one.if_tail) for one in appends)


def test_programs_reach_every_outcome() -> None:
    """Random programs succeed and are refused in every way, often; otherwise the checks would compare little."""
    seen: Counter[str] = Counter()

    @settings(max_examples=150, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(programs(EVERYTHING, 30))
    def play(program: Program) -> None:
        for number, text in imagine(program, range(len(program.operations))).items():
            kind = type(program.operations[number]).__name__
            name = text.partition("(")[0]
            if name in ("TailMoved", "MessageConflict", "VersionMoved"):
                kind = f"{kind} {name}"
            seen[kind] += 1

    play()
    share = {outcome: count / seen.total() for outcome, count in seen.items()}
    for outcome in ("Commit", "Commit TailMoved", "Load"):
        assert share[outcome] > 0.1, share
    for outcome in ("PutResource", "LoadResource", "Delete", "Erase", "List"):
        assert share[outcome] > 0.01, share
    for outcome in ("Commit MessageConflict", "Commit VersionMoved", "PutResource VersionMoved"):
        assert share[outcome] > 0.001, share
