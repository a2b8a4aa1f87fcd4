"""Every error (law 12): drawn in the tree, with what to do next, a full sentence, and whole after pickling."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import pytest

from threadkeep import errors
from threadkeep.errors import Action, Conflict, InvalidInput, StoreError, ThreadkeepError

EXAMPLES: dict[str, tuple[Any, ...]] = {
    "UnknownScheme": ("acme", ("memory", "sqlite"), 'pip install "threadkeep[acme]"'),
    "MissingExtra": ("acme", "acme_driver", 'pip install "threadkeep[acme]"'),
    "LimitExceeded": ("id_bytes", 512, 513, "thread_id (UTF-8 bytes)"),
    "ReadOnly": ("append",),
    "ThreadNotFound": ("t",),
    "MessageNotFound": ("m",),
    "MessageConflict": ("m",),
    "TailMoved": ("epoch", 7),
    "VersionMoved": ("working_memory", 3),
    "ThreadExists": ("t",),
    "Diverged": (2, "it does not say what the stored message 'm' says"),
    "StoreTooNew": (9, 1),
    "StoreTooOld": (1, 9),
    "StoreClosed": (),
    "ThreadBusy": ("t", "support"),
    "CallNotPending": ("call-1", ("call-2",)),
    "ModelFailed": ("support", "the provider is down"),
    "RunLost": ("support", "another run has taken its thread over"),
    "ProcessorFailed": ("redact", "before_commit", "it raised"),
}
"""Constructor arguments of the errors that have fields of their own; every other takes its text."""


def classes() -> list[type[ThreadkeepError]]:
    return [
        member
        for _, member in inspect.getmembers(errors, inspect.isclass)
        if issubclass(member, ThreadkeepError) and member.__module__ == errors.__name__
    ]


def made(kind: type[ThreadkeepError]) -> ThreadkeepError:
    return kind(*EXAMPLES.get(kind.__name__, ("the text names what was wrong",)))


def drawn() -> list[tuple[str, str | None, str]]:
    """The tree of the module's docstring: each name, the name above it, and what is said of it."""
    found: list[tuple[str, str | None, str]] = []
    above: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(r"    ([│├└─ ]*)([A-Z]\w+)\s*(.*)", line)
        if match:
            depth = len(match[1]) // 4
            above[depth] = match[2]
            found.append((match[2], above[depth - 1] if depth else None, match[3]))
    return found


def test_the_tree_that_is_drawn_is_the_tree_that_there_is() -> None:
    real = {kind.__name__: kind.__bases__[0].__name__ for kind in classes()}
    tree = {name: parent for name, parent, _ in drawn()}
    assert tree.pop("ThreadkeepError") is None
    assert real.pop("ThreadkeepError") == "Exception"
    assert tree == real
    assert len(drawn()) == len(classes())
    parents = set(real.values())
    assert [name for name, _, said in drawn() if not said and name not in parents] == []


@pytest.mark.parametrize("kind", classes())
def test_every_error_has_a_docstring_and_says_what_to_do_next(kind: type[ThreadkeepError]) -> None:
    assert kind.__doc__
    assert kind.__doc__[0].isupper()
    assert kind.__doc__.rstrip().endswith((".", '"'))
    assert isinstance(made(kind).action, Action)
    assert made(kind).retryable is (made(kind).action is Action.REPEAT)


def test_every_action_is_explained() -> None:
    source = inspect.getsource(Action)
    for action in Action:
        assert re.search(rf'{action.name} = "{action.value}"\n    """[A-Z].*\."""', source), action


@pytest.mark.parametrize("kind", classes())
def test_the_text_is_a_full_sentence_that_holds_every_field(kind: type[ThreadkeepError]) -> None:
    text = str(made(kind))
    assert len(text.split()) >= 4, text
    assert "\n" not in text
    assert not re.search(r"\bNone\b|<.*object", text)
    for value in EXAMPLES.get(kind.__name__, ()):
        for part in value if isinstance(value, tuple) else (value,):
            assert str(part) in text, (part, text)


@pytest.mark.parametrize("kind", classes())
def test_an_error_is_whole_after_pickling_and_copying(kind: type[ThreadkeepError]) -> None:
    error = made(kind)
    for again in (
        *(pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
        copy.copy(error),
        copy.deepcopy(error),
    ):
        assert type(again) is kind
        assert str(again) == str(error)
        assert again.args == error.args
        assert vars(again) == vars(error)
        assert again.action is error.action


@pytest.mark.parametrize("kind", [kind for kind in classes() if kind.__name__ in EXAMPLES])
def test_every_argument_of_an_error_is_a_field_by_the_same_name(kind: type[ThreadkeepError]) -> None:
    names = [name for name in inspect.signature(kind.__init__).parameters if name not in ("self", "args", "kwargs")]
    assert [getattr(made(kind), name) for name in names] == list(EXAMPLES[kind.__name__])


def test_what_the_branches_promise() -> None:
    for kind in classes():
        if issubclass(kind, InvalidInput):
            assert issubclass(kind, ValueError)
            assert kind.action is Action.FIX
        if issubclass(kind, errors.NotFound):
            assert issubclass(kind, LookupError)
        if kind in (Conflict, errors.TailMoved, errors.VersionMoved, errors.Diverged):
            assert kind.action is Action.RELOAD
        if kind is StoreError:
            assert kind.action is Action.OPERATE
    assert {kind.__name__ for kind in classes() if kind.action is Action.REPEAT} == {
        "StoreUnavailable",
        "OutcomeUnknown",
        "ThreadBusy",
        "ModelFailed",
        "RunLost",
    }
