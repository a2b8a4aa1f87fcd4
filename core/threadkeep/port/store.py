"""The port: what a database has to do to hold threads.

A store keeps two shapes, a log of records and a few small versioned documents in named slots, and five verbs.
It sees no message model: bodies are JSON text that core made, and that comes back letter by letter.

Authors subclass `Store`. Core stands before every call (`threadkeep.port.guard`): ids are non-empty strings that UTF-8
can encode, sizes are within `limits`, bodies are canonical JSON, and the records of one append have distinct ids.
A store need not look at any of that again. What each verb must make appear to happen is said in its docstring;
the numbers in brackets are the laws of the contract that judge it (`threadkeep contract URL`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple, TypeAlias

from threadkeep.errors import ThreadkeepError
from threadkeep.port.limits import Limits
from threadkeep.port.refusals import Refusal


@dataclass(frozen=True, slots=True)
class Resource:
    """Everything of one user or entity."""

    resource_id: str


@dataclass(frozen=True, slots=True)
class Thread:
    """One conversation of one resource. There is no thread without its resource [1]."""

    resource_id: str
    thread_id: str


Scope: TypeAlias = Resource | Thread


class Record(NamedTuple):
    """One entry of a thread's log, as core gives it: two records with one id are equal if their digests are [2]."""

    id: str
    digest: str
    body: str


class Stored(NamedTuple):
    """A record in its place. `at` is the time of the commit that brought it, in microseconds since 1970 UTC."""

    position: int
    at: int
    id: str
    digest: str
    body: str


class Doc(NamedTuple):
    """A versioned document. Versions count from 1; body None is a document that was removed, its version goes on."""

    version: int
    body: str | None


class Tail(NamedTuple):
    """Where a thread ends: its epoch and the position of its newest record, 0 when it has none."""

    epoch: str
    position: int


MISSING = Tail("", 0)
"""The tail of a thread that is not there."""


class Put(NamedTuple):
    """Write a document: version + 1, from 0 where there is none. Core never puts one slot twice in a commit.

    With `if_version`, only if that is the document's version now (0: there is none) [9].
    """

    slot: str
    body: str | None
    if_version: int | None = None


class Window(NamedTuple):
    """Which records to load. The anchor cuts the log in two: below it, and from it on.

    `anchor` is None (the end: everything is below), a position, or the id of a record; `before` counts the newest
    records below the anchor, `after` the oldest from the anchor on, the anchor's own record being the first of these.
    An id that is not in the thread selects nothing.
    """

    anchor: int | str | None = None
    before: int = 0
    after: int = 0


@dataclass(frozen=True, slots=True)
class Changes:
    """One commit. The fields act in this order: conditions, `drop_after`, `append`, `puts`, `resource_puts`."""

    at: int
    """The commit's time by core's clock, in microseconds since 1970 UTC. It orders lists of threads, never records."""
    epoch: str = ""
    """The epoch that the thread gets if this commit creates it: a fresh random token."""
    append: tuple[Record, ...] = ()
    puts: tuple[Put, ...] = ()
    """Documents of the scope: of the thread, or of the resource where the scope is one."""
    resource_puts: tuple[Put, ...] = ()
    """Documents of the thread's resource. Empty where the scope is a resource."""
    drop_after: int | None = None
    """Drop the records above this position. Their ids are free again, their positions are not [3, 10]."""
    if_tail: Tail | None = None
    if_epoch: str | None = None
    """The thread must be in this epoch; "" means that it must not exist."""
    seen: Tail | None = None
    """A hint, never a condition: the tail that the caller saw last."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A scope at one instant. `created` and `active` are microseconds since 1970 UTC, 0 for a missing thread."""

    tail: Tail = MISSING
    created: int = 0
    active: int = 0
    records: Sequence[Stored] = ()
    docs: Mapping[str, Doc] = field(default_factory=dict)
    """By slot; of the thread where the scope is one, else empty."""
    resource_docs: Mapping[str, Doc] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a commit came to. It is the same for a record that was new and for one that was there already [2]."""

    tail: Tail
    positions: Sequence[int] = ()
    """As `Changes.append`."""
    versions: Sequence[int] = ()
    """As `Changes.puts`."""
    resource_versions: Sequence[int] = ()
    """As `Changes.resource_puts`."""


class ThreadRow(NamedTuple):
    """A thread in a list."""

    thread_id: str
    tail: Tail
    created: int
    active: int
    docs: Mapping[str, Doc]
    """The documents of the slots that were asked for, by slot."""


Order: TypeAlias = Literal["created", "active"]
"""`created`: oldest first, by (created, thread_id). `active`: newest first, by (active, thread_id), both falling."""


class After(NamedTuple):
    """The place in a list of threads after which a page begins: the last row's `created` or `active`, and its id."""

    at: int
    thread_id: str


class Clause(StrEnum):
    """The parts of laws that some databases cannot offer. Everything else is not negotiable."""

    PROCESSES = "processes"
    """Several processes share one store (laws 1, 2, 5)."""
    DURABILITY = "durability"
    """What was acknowledged survives the death of the client and of the server (laws 4, 6)."""
    SCAN = "scan"
    """`scan_backend` shows ids and contents, raw or decoded, so that what a deletion left behind is seen (law 10)."""


@dataclass(frozen=True, slots=True)
class Costs:
    """How many round trips the hot verbs take, whatever is stored: exactly so many, but for what is "at most" [13]."""

    load: int = 1
    commit: int = 1
    """By a caller that has just seen the thread."""
    most_load: int | None = None
    """At most, of a load of anything but the newest messages; None where each takes what `load` says."""
    most_commit: int | None = None
    """At most, of a commit of more than 50 messages; None where it takes what `commit` says."""
    first_commit: int | None = None
    """Of a commit that writes the first thing of its resource, where that takes more; None where it does not."""


@dataclass(slots=True)
class Meter:
    """What a store has cost since it was made. Adapters count up, at the place where they call their driver."""

    trips: int = 0
    """Round trips: requests sent to the backend and awaited. For an embedded database, transactions."""
    rows: int = 0
    """Records, documents and threads that crossed between the adapter and the backend, either way."""


Translate: TypeAlias = Callable[[Exception], ThreadkeepError | None]


class Store(ABC):
    """A database under threadkeep. Subclass, declare the data, implement the verbs.

    Verbs are called from any number of tasks at once, and over a store's life from several event loops and threads.
    Every verb is linearizable [5]. A verb that is cancelled leaves the store usable, and its commit done or not done.
    """

    limits: Limits = Limits()
    costs: Costs = Costs()
    not_offered: Mapping[Clause, str] = {}
    """Clauses that this store does not keep, each with the reason. The report shows them as loudly as a failure."""
    refuses: Mapping[Refusal, str] = {}
    """Valid input that this store cannot take, each with the reason. Core refuses it before the store is asked, and the
    report shows it as loudly as a failure."""
    driver_errors: Sequence[tuple[type[Exception], Translate | type[ThreadkeepError]]] = ()
    """Driver exceptions and what they mean here, most special first; core applies it in one place [12].

    A class is raised with the driver's text. A function may return None: not mine, go on. What no entry takes leaves
    a commit or delete as OutcomeUnknown and any other verb as StoreError, or as StoreUnavailable where
    `connection_errors` has it.
    """
    connection_errors: Sequence[type[Exception]] = (ConnectionError, TimeoutError, EOFError)
    """Exceptions that are no answer of the backend: a connection ended, or the driver lost its way on it [12].

    A store adds those of its driver to these, and throws such a connection away. A call that fails so may be repeated.
    Where the driver loses its way again on a fresh connection, a store raises StoreError itself, so that nobody
    repeats that for ever. An error that the backend answers is none of these, nor is a bug.
    """

    def __init__(self) -> None:
        self.meter = Meter()

    @abstractmethod
    async def open(self) -> None:
        """Connect, and make the schema where there is none.

        Safe to repeat, and to race with other openers in this and other processes [5, 12]. Raises StoreTooNew or
        StoreTooOld, with nothing touched, on a place whose layout is another version's (`check_schema_version`);
        StoreDamaged where the place is another program's.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let go of connections and threads. Safe to repeat. Core calls no other verb afterwards."""

    @abstractmethod
    async def load(self, scope: Scope, window: Window) -> Snapshot:
        """All that a turn needs, in one consistent view: a commit is in it whole or not at all [4].

        Records come in the order of their positions. A missing thread has tail MISSING, no records and no docs, and
        its resource's documents all the same; so has a thread that another resource owns, to the letter [1].
        For a Resource the window is not looked at. The cost does not depend on the thread's length, nor on
        anything in other scopes [8, 13].
        """

    @abstractmethod
    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        """Write everything in `changes`, or raise and write nothing [4].

        A record of `append` whose id is in the thread already (above `drop_after` nothing is) with the same digest
        is known: it is not written again, and the receipt gives its first position [2]. New records get,
        in the order given, the next positions after the largest that this epoch ever gave, from 1 on, without gaps [3].

        Conditions, in this order, each tested before anything is written:
        1. `if_epoch`: else TailMoved with the tail now.
        2. A record's id is there with another digest: MessageConflict.
        3. `if_tail`: else TailMoved; not tested where `append` is non-empty, all known, and `drop_after` is None,
           since then this is the repetition of a commit that happened.
        4. `Put.if_version` of `puts`, then of `resource_puts`: else VersionMoved.

        A commit to a thread that is not there creates it, in the epoch given, with created = active = `at`, even if
        nothing is appended; a commit to one that is there sets `active` to the larger of its own and `at`. A commit
        whose scope is a Resource has only `puts`; resource documents live and die without any thread.

        Where the outcome cannot be known, raises OutcomeUnknown, directly or through `driver_errors` [6].
        """

    @abstractmethod
    async def delete(self, scope: Scope) -> None:
        """Remove the thread with its records, ids, documents and indexes; or all of that of a resource [10].

        Nothing else is touched: not a neighbour whose id begins alike, nor, for a thread, the resource's documents.
        Deleting what is not there is not an error. What stays behind, if anything must, holds neither id nor content.
        A thread created later under the same id begins at position 1 and version 1, in its new epoch.
        """

    @abstractmethod
    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        """The next `limit` threads of a resource in `order`, strictly after `after`, with the docs in `slots` [8].

        Fewer than `limit` rows mean that the list has ended. A thread that is committed to during a walk must not be
        found at a second place further on, nor hide one that nobody touched.
        """

    @abstractmethod
    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        """The next `limit` resource ids after `after`, by code point: those with a thread or a document, be it one
        that was removed.

        Reached only through `memory.admin`. Fewer than `limit` mean that the list has ended.
        """
