"""Law 12: errors and lifecycle.

Only the library's own errors leave a store; the driver's error is the cause. Whether to retry is a property of the
error. Opening is safe to repeat and to race; closing is safe to repeat; using a closed store is `StoreClosed`. A store
serves several event loops and threads over its life. A verb that is cancelled leaves it usable, and holds nothing that
another handle waits for. A store made by another version of the library is refused with a clear error and left
untouched. A store whose place was deleted or replaced while it was open is `StoreDamaged`, acknowledges nothing more,
and leaves alone what has come in its place.

All who open a handle at once, tasks, event loops and threads, share one opening. One that is cancelled or fails does
not fail those who wait for it: one of them begins the next, and nobody waits for more than two. A handle belongs to the
process that opened it: in a process that was forked off it is refused with a `StoreError`, and closing it there leaves
the parent's open.

What may happen, from the first opening to the end:

- A *place* is opened for the first time, by one or by many at once, tasks, threads or processes (law 5 has these
  checks); opened again; left by all and found again, in this process and in another; says that a newer or an older
  version made it; is taken away, or replaced, under those who have it open.
- A *handle* is opened by itself or by its first verb, once, again or in a race; serves tasks, event loops and threads,
  one after the other and at once; loses an event loop with calls still running; has calls cancelled at any moment, its
  opening and closing among them; has calls whose waits fail, or whose answers are lost; is closed before it was opened,
  while it opens, while calls run, twice, by another loop; and is used after that. Its process is forked. Its
  connections are cut, one under a call or all at once, and clocks jump under it.
- An *answer* is kept while what it tells of changes.
"""

from __future__ import annotations

from threadkeep_contract.laws.lifecycle.cancellation import Cancellation
from threadkeep_contract.laws.lifecycle.errors import Errors
from threadkeep_contract.laws.lifecycle.faults import Faults
from threadkeep_contract.laws.lifecycle.forks import Forks
from threadkeep_contract.laws.lifecycle.life import Life
from threadkeep_contract.laws.lifecycle.opening import Opening
from threadkeep_contract.laws.lifecycle.places import Places
from threadkeep_contract.laws.lifecycle.versions import Versions
from threadkeep_contract.laws.lifecycle.waits import Waits


class Lifecycle(Errors, Life, Cancellation, Waits, Faults, Forks, Opening, Versions, Places):
    """Only the library's own errors leave a store, and it can be opened, closed, shared and interrupted at will."""

    number = 12
    title = "Errors and lifecycle"
