"""Every error that leaves threadkeep.

    ThreadkeepError
    ├── InvalidInput                the call was wrong; nothing was written
    │   ├── InvalidId               an id is missing, empty, not a string, or not encodable
    │   ├── InvalidContent          a value is not JSON, or is not what its field takes
    │   ├── InvalidCursor           a cursor from another scope, query or epoch
    │   ├── InvalidURL              a store URL that cannot be read
    │   │   ├── UnknownScheme       no installed plugin answers to the scheme
    │   │   └── MissingExtra        the plugin is there, its driver is not
    │   ├── LimitExceeded           over a limit that the store declares
    │   └── ReadOnly                a write through a read-only handle
    ├── NotFound                    what was named is not there; nothing was written
    │   ├── ThreadNotFound          the resource has no thread with this id
    │   └── MessageNotFound         the thread has no message with this id
    ├── Conflict                    the stored state is not what the call supposed; nothing was written
    │   ├── MessageConflict         the message id is there with another body
    │   ├── TailMoved               the thread's tail is not the one given
    │   ├── VersionMoved            the document's version is not the one given
    │   ├── ThreadExists            a thread to be created is there already
    │   ├── Diverged                a client's history is not the stored one
    │   ├── ThreadBusy              another run of an agent is at work in the thread
    │   └── CallNotPending          a tool call that was answered does not wait for an answer
    ├── StoreError                  the store could not do it
    │   ├── StoreUnavailable        busy, unreachable or out of time; nothing was written
    │   ├── OutcomeUnknown          a write may or may not have happened
    │   ├── StoreFull               no room left; nothing was written
    │   ├── StoreNotWritable        no permission to write; nothing was written
    │   ├── StoreDamaged            what the backend holds is not a threadkeep store, is damaged, or was replaced
    │   ├── StoreTooNew             made by a newer version of this library
    │   ├── StoreTooOld             made by an older version of this library, whose layout is another
    │   └── StoreClosed             used after close()
    ├── PluginError                 a store plugin is broken or claimed twice
    └── AgentError                  the agent loop could not go on
        ├── ModelFailed             the model raised; the cause is its error
        ├── RunLost                 another run has taken the thread over
        └── ProcessorFailed         a processor raised, or changed what it may not

What to do next is `error.action`; `error.retryable` says whether the same call may simply be repeated.
"""

from __future__ import annotations

from enum import StrEnum


class Action(StrEnum):
    """What the caller of a failed call should do next."""

    FIX = "fix"
    """Change the call: as it is, it can never succeed."""
    RELOAD = "reload"
    """Load the thread again, look, and decide anew."""
    REPEAT = "repeat"
    """Repeat the same call, later; that is always safe (law 2)."""
    OPERATE = "operate"
    """Someone has to mend the store or its server first."""


class ThreadkeepError(Exception):
    """The base of every error of this library. `args` are the constructor's arguments, so each one pickles."""

    action: Action = Action.FIX

    @property
    def retryable(self) -> bool:
        """Whether the same call may be repeated as it is."""
        return self.action is Action.REPEAT


class InvalidInput(ThreadkeepError, ValueError):
    """The call was wrong. Nothing was written."""


class InvalidId(InvalidInput):
    """An id that is missing, empty, not a string, or holds what UTF-8 cannot encode."""


class InvalidContent(InvalidInput):
    """A value that is not JSON, or that its field does not take; the text names the path to it."""


class InvalidCursor(InvalidInput):
    """A cursor is good in the scope, query and epoch that it came from, and nowhere else."""


class InvalidURL(InvalidInput):
    """A store URL that cannot be read; the text says which part, and never repeats a password."""


class UnknownScheme(InvalidURL):
    """No installed plugin answers to the URL's scheme."""

    def __init__(self, scheme: str, installed: tuple[str, ...], hint: str = "") -> None:
        super().__init__(scheme, installed, hint)
        self.scheme = scheme
        self.installed = installed
        self.hint = hint

    def __str__(self) -> str:
        known = ", ".join(f"{name}://" for name in self.installed) or "none"
        return f"no store is installed for {self.scheme}:// (installed: {known}){self.hint and '; ' + self.hint}"


class MissingExtra(InvalidURL):
    """The scheme is known, but the driver that it needs is not installed."""

    def __init__(self, scheme: str, module: str, hint: str) -> None:
        super().__init__(scheme, module, hint)
        self.scheme = scheme
        self.module = module
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.scheme}:// needs the module {self.module!r}, which is not installed; {self.hint}"


class LimitExceeded(InvalidInput):
    """Something is larger than the store's declared limit. Nothing was written.

    `limit` is the limit's name in `Limits`, `allowed` its value, `given` the size of what was given (bytes, or a
    count for limits of counts), `what` the thing measured.
    """

    def __init__(self, limit: str, allowed: int, given: int, what: str) -> None:
        super().__init__(limit, allowed, given, what)
        self.limit = limit
        self.allowed = allowed
        self.given = given
        self.what = what

    def __str__(self) -> str:
        return f"{self.what} is {self.given}, over the limit {self.limit} = {self.allowed}; make it smaller or split it"


class ReadOnly(InvalidInput):
    """A write was asked of a read-only handle."""

    def __init__(self, verb: str) -> None:
        super().__init__(verb)
        self.verb = verb

    def __str__(self) -> str:
        return f"this handle is read-only and refuses {self.verb}(); take a handle without read_only to write"


class NotFound(ThreadkeepError, LookupError):
    """What was named is not there. Nothing was written."""


class ThreadNotFound(NotFound):
    """The resource has no thread with this id. Another resource's thread looks just the same."""

    def __init__(self, thread_id: str) -> None:
        super().__init__(thread_id)
        self.thread_id = thread_id

    def __str__(self) -> str:
        return f"there is no thread {self.thread_id!r}; create it, or append to it, first"


class MessageNotFound(NotFound):
    """The thread has no message with this id."""

    def __init__(self, message_id: str) -> None:
        super().__init__(message_id)
        self.message_id = message_id

    def __str__(self) -> str:
        return f"there is no message {self.message_id!r} in this thread"


class Conflict(ThreadkeepError):
    """The stored state is not what the call supposed. Nothing was written."""

    action = Action.RELOAD


class MessageConflict(Conflict):
    """A message with this id is in the thread (or twice in the call) with another body."""

    action = Action.FIX

    def __init__(self, message_id: str) -> None:
        super().__init__(message_id)
        self.message_id = message_id

    def __str__(self) -> str:
        return (
            f"message {self.message_id!r} is there already with another body, and messages never change; "
            "give the new one an id of its own"
        )


class TailMoved(Conflict):
    """The thread's tail is not the one that the commit was made for.

    `epoch` and `position` are the tail now; epoch "" and position 0 where there is no thread.
    """

    def __init__(self, epoch: str, position: int) -> None:
        super().__init__(epoch, position)
        self.epoch = epoch
        self.position = position

    def __str__(self) -> str:
        now = f"at position {self.position} of epoch {self.epoch!r}" if self.epoch else "that of a missing thread"
        return f"the thread's tail has moved and is now {now}; load the thread again and decide"


class VersionMoved(Conflict):
    """A document's version is not the one given; `version` is the one that it has now, 0 where there is none."""

    def __init__(self, slot: str, version: int) -> None:
        super().__init__(slot, version)
        self.slot = slot
        self.version = version

    def __str__(self) -> str:
        return f"{self.slot} is at version {self.version} now; read it again and decide"


class ThreadExists(Conflict):
    """A thread that was to be created is there already."""

    action = Action.FIX

    def __init__(self, thread_id: str) -> None:
        super().__init__(thread_id)
        self.thread_id = thread_id

    def __str__(self) -> str:
        return f"thread {self.thread_id!r} exists; use get_or_create_thread, or another id"


class Diverged(Conflict):
    """A history that a client sent is not the stored one continued; `index` is the first message that differs."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(index, reason)
        self.index = index
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"the history differs from the stored thread at index {self.index}: {self.reason}; "
            "drop the stored messages from there on, or fork the thread before it"
        )


class ThreadBusy(Conflict):
    """Another run is at work in the thread, or waits for it, and the caller did not want to wait."""

    action = Action.REPEAT

    def __init__(self, thread_id: str, agent: str) -> None:
        super().__init__(thread_id, agent)
        self.thread_id = thread_id
        self.agent = agent

    def __str__(self) -> str:
        return (
            f"a run of agent {self.agent!r} is at work in thread {self.thread_id!r}; "
            "repeat the request later, or wait with on_busy='queue'"
        )


class CallNotPending(Conflict):
    """An approval or a result was sent for a tool call that does not wait for one; `waiting` are the ids that do."""

    def __init__(self, tool_call_id: str, waiting: tuple[str, ...]) -> None:
        super().__init__(tool_call_id, waiting)
        self.tool_call_id = tool_call_id
        self.waiting = waiting

    def __str__(self) -> str:
        return (
            f"no call {self.tool_call_id!r} waits for an answer of this kind in the thread's last turn "
            f"(waiting: {', '.join(map(repr, self.waiting)) or 'none'}); it has one, or the conversation has gone on"
        )


class StoreError(ThreadkeepError):
    """The store could not do what was asked."""

    action = Action.OPERATE


class StoreUnavailable(StoreError):
    """Busy, unreachable, or out of time. Nothing was written."""

    action = Action.REPEAT


class OutcomeUnknown(StoreError):
    """A write was sent and its outcome cannot be known. Repeating the same call is safe (laws 2 and 6)."""

    action = Action.REPEAT


class StoreFull(StoreError):
    """The backend has no room left. Nothing was written."""


class StoreNotWritable(StoreError):
    """The backend may be read, but not written, or not even opened. Nothing was written."""


class StoreDamaged(StoreError):
    """What the backend holds is damaged, belongs to another program, or is not what the store was opened on: that was
    deleted or replaced. It was left as it is."""


class StoreTooNew(StoreError):
    """The store was made by a newer version of this library, and was left untouched."""

    def __init__(self, found: int, supported: int) -> None:
        super().__init__(found, supported)
        self.found = found
        self.supported = supported

    def __str__(self) -> str:
        return (
            f"the store has schema version {self.found}, this library knows versions up to {self.supported}; "
            "upgrade threadkeep"
        )


class StoreTooOld(StoreError):
    """The store was made by an older version of this library, in a layout that this one does not read. It was left
    untouched."""

    def __init__(self, found: int, supported: int) -> None:
        super().__init__(found, supported)
        self.found = found
        self.supported = supported

    def __str__(self) -> str:
        return (
            f"the store has schema version {self.found}, this library needs {self.supported}; with the version of "
            "threadkeep that made it, export it or copy it, and import or copy that into a new place with this one"
        )


class StoreClosed(StoreError):
    """The store, or the Memory above it, has been closed."""

    action = Action.FIX

    def __str__(self) -> str:
        return "the store is closed; open a new one"


class PluginError(ThreadkeepError):
    """A store plugin cannot be used: it fails to import, lacks its hook, or its scheme is claimed twice."""

    action = Action.OPERATE


class AgentError(ThreadkeepError):
    """The agent loop could not go on. What was said until then is kept."""


class ModelFailed(AgentError):
    """The model raised. Its error is the cause; the user's message is kept, and the request may be repeated.

    `action` is what the model says about its failure, REPEAT where it says nothing: a key that is refused has to be
    mended first, a request that is too long to be changed. `retry_after` is the number of seconds that its provider
    wants to be left alone, None where it did not say.
    """

    action = Action.REPEAT
    retry_after: float | None = None

    def __init__(self, agent: str, reason: str) -> None:
        super().__init__(agent, reason)
        self.agent = agent
        self.reason = reason

    def __str__(self) -> str:
        return f"the model of agent {self.agent!r} failed: {self.reason}"


class RunLost(AgentError):
    """The run no longer holds its thread, and stopped without writing anything more."""

    action = Action.REPEAT

    def __init__(self, agent: str, reason: str) -> None:
        super().__init__(agent, reason)
        self.agent = agent
        self.reason = reason

    def __str__(self) -> str:
        return f"the run of agent {self.agent!r} has stopped: {self.reason}; repeat the request to see what there is"


class ProcessorFailed(AgentError):
    """A processor raised, or changed what it may not. Nothing that it was to look at was stored or shown to a model.

    `processor` is its name and `hook` the hook that failed, "before_model" or "before_commit"; what it raised is the
    cause.
    """

    def __init__(self, processor: str, hook: str, reason: str) -> None:
        super().__init__(processor, hook, reason)
        self.processor = processor
        self.hook = hook
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.hook} of processor {self.processor!r} failed: {self.reason}"
