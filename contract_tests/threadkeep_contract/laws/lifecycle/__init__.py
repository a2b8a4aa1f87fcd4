"""Law 12: errors and lifecycle.

Only the library's own errors leave a store; the driver's error is the cause. Whether to retry is a property of the
error. Opening is safe to repeat and to race; closing is safe to repeat; using a closed store is `StoreClosed`. A store
serves several event loops and threads over its life, and a verb that is cancelled leaves it usable. A store made by a
newer version of the library is refused with a clear error and left untouched.

The refusal of a newer schema is the adapter's own test, since a URL cannot ask for one.
"""

from __future__ import annotations

from threadkeep_contract.laws.lifecycle.cancellation import Cancellation
from threadkeep_contract.laws.lifecycle.errors import Errors
from threadkeep_contract.laws.lifecycle.opening import Opening


class Lifecycle(Errors, Cancellation, Opening):
    """Only the library's own errors leave a store, and it can be opened, closed, shared and interrupted at will."""

    number = 12
    title = "Errors and lifecycle"
