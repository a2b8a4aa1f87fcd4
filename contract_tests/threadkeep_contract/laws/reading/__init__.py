"""Law 8: reading.

`last=n` returns the newest n, oldest first, at a cost that does not depend on the length of the thread (law 13 counts
it). Pages of messages joined are the full list: nothing twice, nothing missing, also while others append. Threads are
listed by creation (every thread exactly once, whatever happens meanwhile) or by last activity (every thread that nobody
touched during the walk exactly once, none twice). Filters change what is shown, not the walk. A window never separates
a tool call from its result when `pair_safe` is asked for. List order is total and stated; ties are broken by id.
Counting is its own call.

Every full page that any check is shown, of a list or of a thread's messages, has to be beyond the place from which it
was asked to go on: a walk shows each once and ends.
"""

from __future__ import annotations

from threadkeep_contract.laws.reading.large import Large
from threadkeep_contract.laws.reading.lists import Lists
from threadkeep_contract.laws.reading.windows import Windows


class Reading(Large, Lists, Windows):
    """Windows, pages and lists show what is there, once and in order. The checks of the last base come first."""

    number = 8
    title = "Reading"
