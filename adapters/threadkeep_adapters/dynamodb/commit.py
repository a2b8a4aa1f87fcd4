"""One commit, from what the store remembers of its thread to the receipt.

    remembered or read
            |
            v
          Seen --------> plan_commit --------> a Lack, which is supplied: Seen again
            ^                 |
            |                 v
            +-- refused -- a transaction ----> Done, and what was dropped is swept

A transaction is refused because an id is there, which is then known, or because others have changed a head, which is
then read again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from threadkeep.errors import OutcomeUnknown
from threadkeep.port import Changes, Receipt, Resource, Scope
from threadkeep_adapters.dynamodb import layout, reading, sweep
from threadkeep_adapters.dynamodb.connections import Client
from threadkeep_adapters.dynamodb.errors import Cancelled
from threadkeep_adapters.dynamodb.layout import Heads
from threadkeep_adapters.dynamodb.plan import HeadsAre, IdsAre, Lack, Plan, Seen, plan_commit
from threadkeep_adapters.dynamodb.reading import Torn
from threadkeep_adapters.dynamodb.transaction import Transaction, write_settling


@dataclass(frozen=True, slots=True)
class Done:
    """The commit is written."""

    receipt: Receipt
    heads: Heads
    """The heads afterwards."""


State: TypeAlias = Seen | Done


class Commit:
    """A commit that begins now, and has the time of a verb. It blocks."""

    def __init__(self, client: Client, scope: Scope, changes: Changes) -> None:
        self._client = client
        self._deadline = client.deadline()
        self._scope = scope
        self._changes = changes
        self._ids = [record.id for record in changes.append]

    def run(self, remembered: Heads | None) -> Done:
        """Commit, and try it first with the heads that are remembered. Raises as `Store.commit`."""
        state: State = self._read() if remembered is None else Seen(remembered, HeadsAre.REMEMBERED)
        while isinstance(state, Seen):
            state = self._next(state)
        return self._swept(state)

    def _next(self, seen: Seen) -> State:
        try:
            plan = plan_commit(self._scope, seen, self._changes)
            if isinstance(plan, Plan):
                return self._do(seen, plan)
            return self._supply(seen, plan)
        except Torn:
            self._deadline.give_way("the thread changes faster than it can be cut")
        except Cancelled as cancelled:
            self._deadline.give_way(f"others are changing the thread: {cancelled}")
        return self._read()

    def _read(self) -> Seen:
        heads, _ = reading.read_heads(self._client, self._deadline, self._scope)
        return Seen(heads, HeadsAre.READ)

    def _do(self, seen: Seen, plan: Plan) -> State:
        try:
            self._transact(plan.transaction)
        except Cancelled as cancelled:
            places = plan.transaction.ids_there(cancelled)
            if places is None:
                raise
            # Only ids stood against it: the heads are still what they were.
            self._deadline.check("the ids of the thread are not as they should be")
            return replace(seen, heads_are=HeadsAre.READ, places={**seen.places, **places})
        return Done(plan.receipt, plan.transaction.heads)

    def _transact(self, transaction: Transaction) -> None:
        """Do a transaction. Raises Cancelled where it was refused, and OutcomeUnknown where nobody knows."""
        try:
            self._client.transact(self._deadline, transaction.actions)
        except Cancelled as cancelled:
            if cancelled.__cause__ is None:
                raise
            # An earlier try whose answer was lost may be what stands against this one.
            if not transaction.is_done(cancelled.old[0]):
                raise OutcomeUnknown(
                    f"the answer to a commit was lost ({cancelled.__cause__}), and others have changed the thread since"
                ) from cancelled.__cause__

    def _supply(self, seen: Seen, lack: Lack) -> Seen:
        """What is seen once there is what was lacking."""
        client, deadline, scope = self._client, self._deadline, self._scope
        pk, _ = layout.partitions(scope)
        match lack:
            case Lack.HEADS:
                return self._read()
            case Lack.ERASURE:
                resource = Resource(scope.resource_id)
                sweep.finish_erasure(client, client.deadline(), resource, seen.heads.resource.erasure)
                return self._read()
            case Lack.REMOVAL:
                sweep.sweep_thread(client, client.deadline(), scope, seen.heads.thread.mark)
                return self._read()
            case Lack.IDS:
                return self._look_up(seen)
            case Lack.SETTLING:
                settling = write_settling(scope, seen.heads)
                self._transact(settling)
                return replace(seen, heads=settling.heads)
            case Lack.SWEEP:
                # The heads afterwards may be newer than what was seen of the ids.
                heads = sweep.sweep_dropped(client, deadline, scope, seen.heads)
                return Seen(heads, seen.heads_are, is_swept=True)
            case Lack.END:
                drop_after = self._changes.drop_after
                assert drop_after is not None  # noqa: S101 -- only a truncation has an end
                return replace(seen, cut=reading.read_cut(client, deadline, pk, seen.heads.thread, drop_after))
            case Lack.ROOM:
                places = reading.find_ids(client, deadline, pk, self._ids)
                if not places:
                    return replace(seen, ids_are=IdsAre.LOOKED_UP, places={})
                if seen.heads_are is HeadsAre.REMEMBERED:
                    return self._read()
                # They may be there since a later moment than that of the heads.
                return self._look_up(seen)

    def _look_up(self, seen: Seen) -> Seen:
        """What is seen when every id was found, or not, at a moment at which the heads were these."""
        client, deadline, scope = self._client, self._deadline, self._scope
        pk, _ = layout.partitions(scope)
        before = seen.heads
        while True:
            places = reading.find_ids(client, deadline, pk, self._ids)
            after, _ = reading.read_heads(client, deadline, scope)
            if after.thread.mark == before.thread.mark and after.resource.mark == before.resource.mark:
                return Seen(after, HeadsAre.READ, IdsAre.LOOKED_UP, places, seen.is_swept)
            before = after
            deadline.give_way("others are changing the thread")

    def _swept(self, done: Done) -> Done:
        """Done, and what truncations have left is swept; where that fails, it is left for the next commit."""
        if not done.heads.thread.dead:
            return done
        try:
            heads = sweep.sweep_dropped(self._client, self._client.deadline(), self._scope, done.heads)
        except Exception:  # noqa: BLE001 -- the commit is done, and its dropped records are invisible already
            return done
        return replace(done, heads=heads)
