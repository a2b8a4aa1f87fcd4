"""What a profile tries of a catalogue: over the seeds everything, and with each seed some of every kind."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from threadkeep_contract.harness import Harness
from threadkeep_contract.inputs.confusable import PAIRS
from threadkeep_contract.laws import NUMBERS, checks
from threadkeep_contract.laws import law as law_of
from threadkeep_contract.profiles import PROFILES

USE = "harness.some("


def trying(law: Any, check: str) -> set[Callable[..., object]]:
    """The functions by which a check tries a share of a catalogue: itself, or one of its module that it names."""
    method = getattr(law, check)
    named = [vars(inspect.getmodule(method)).get(name) for name in method.__code__.co_names]
    functions = [method, *(each for each in named if inspect.isfunction(each) and each.__module__ == method.__module__)]
    return {each for each in functions if USE in inspect.getsource(each)}


USES = [
    (law_of(number), check) for number in NUMBERS for check in checks(law_of(number)) if trying(law_of(number), check)
]
"""The checks that try a share of a catalogue."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def kind_of_nothing(_: object) -> None:
    """All entries are of one kind."""


@pytest.mark.parametrize(("law", "check"), USES, ids=[check for _, check in USES])
def test_each_seed_tries_every_kind_and_the_seeds_together_everything(
    law: Any, check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Sequence[Any], float, Callable[[Any], object]]] = []
    some = Harness.some

    def noted(
        self: Harness, catalogue: Sequence[Any], share: float = 1.0, kind: Callable[[Any], object] = kind_of_nothing
    ) -> Sequence[Any]:
        asked.append((catalogue, share, kind))
        return some(self, catalogue, share, kind)

    monkeypatch.setattr(Harness, "some", noted)
    harness = Harness("memory://shares", PROFILES["brief"])
    try:
        getattr(law(), check)(harness)
    finally:
        harness.close()
    monkeypatch.undo()
    assert asked
    for catalogue, share, kind in asked:
        kinds = {kind(entry) for entry in catalogue}
        assert len(kinds) > 1
        for name, profile in PROFILES.items():
            step = max(1, round(share * profile.share))
            shares = [Harness("memory://shares", profile, seed).some(catalogue, share, kind) for seed in range(step)]
            assert {entry for part in shares for entry in part} == set(catalogue), name
            for part in shares:
                assert {kind(entry) for entry in part} == kinds, name


def test_no_use_is_left_out() -> None:
    modules = {inspect.getmodule(law_of(number)) for number in NUMBERS}
    modules |= {inspect.getmodule(base) for number in NUMBERS for base in law_of(number).__mro__}
    written = sum(
        inspect.getsource(module).count(USE)
        for module in modules
        if module is not None and module.__name__.startswith("threadkeep_contract.laws")
    )
    functions = {function for law, check in USES for function in trying(law, check)}
    assert written == sum(inspect.getsource(function).count(USE) for function in functions)


def test_a_share_does_not_follow_the_order_of_the_catalogue() -> None:
    """The catalogue of pairs alternates between two resources and two threads of one; with half of it each seed
    once had one of the two sorts alone.
    """
    parts = [Harness("memory://shares", PROFILES["default"], seed).some(PAIRS, 2) for seed in (0, 1)]
    for part in parts:
        sorts = Counter(pair.first.resource_id == pair.second.resource_id for pair in part)
        assert min(sorts[True], sorts[False]) > len(part) / 5


def test_a_kind_of_few_is_in_every_share() -> None:
    catalogue = [*range(100), "rare", "rarer"]
    step = PROFILES["quick"].share
    parts = [Harness("memory://shares", PROFILES["quick"], seed).some(catalogue, kind=type) for seed in range(step)]
    assert [sum(isinstance(entry, str) for entry in part) for part in parts] == [1] * step
    assert {entry for part in parts for entry in part} == {*catalogue}
    sizes = {sum(isinstance(entry, int) for entry in part) for part in parts}
    assert sizes <= {100 // step, 100 // step + 1}
