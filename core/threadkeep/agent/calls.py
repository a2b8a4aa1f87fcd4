"""The tool calls of one message: which may run now, and the running of them side by side."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from threadkeep.agent.events import Event, ToolAnswered, ToolCalled
from threadkeep.messages.model import ToolCallPart, ToolResultPart
from threadkeep.models.tools import ArgumentError, Tool, ToolContext, call_arguments, failure, run_call
from threadkeep.telemetry import RunSpan

Waits: TypeAlias = Literal["approval", "client_tools"]

_log: Final = logging.getLogger("threadkeep.agent")


@dataclass(frozen=True, slots=True)
class Job:
    """A call to be answered now. `approval` is what was answered to it, where it needed approval."""

    call: ToolCallPart
    approval: Mapping[str, Any] | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """What the result's message says of the approval."""
        return {} if self.approval is None else {"approval": dict(self.approval)}


def waits_for(call: ToolCallPart, tools: Mapping[str, Tool], approvals: Mapping[str, Any]) -> Waits | None:
    """What a call waits for, None where it can be answered now."""
    chosen = tools.get(call.name)
    if chosen is None:
        return None
    if chosen.call is None:
        return "client_tools"
    if chosen.needs_approval and call.tool_call_id not in approvals and _asks(chosen, call):
        return "approval"
    return None


def _asks(chosen: Tool, call: ToolCallPart) -> bool:
    if not callable(chosen.needs_approval):
        return chosen.needs_approval
    try:
        arguments = call_arguments(call)
    except ArgumentError:
        # It will not run, and the model is told why.
        return False
    try:
        return bool(chosen.needs_approval(arguments))
    except Exception as error:  # noqa: BLE001 - it is the user's code and may raise anything
        _log.warning("needs_approval of tool %r failed, so that its call needs approval: %s", chosen.name, error)
        return True


class ToolRuns:
    """Runs jobs. `results` has the answers by the index of the job, as soon as each is there."""

    def __init__(
        self,
        tools: Mapping[str, Tool],
        context: Callable[[ToolCallPart, Callable[[Any], None]], ToolContext],
        timeout: float | None,
        span: RunSpan,
    ) -> None:
        self._span = span
        self._tools = tools
        self._context = context
        self._timeout = timeout
        self.results: dict[int, ToolResultPart] = {}

    async def events(self, jobs: Sequence[Job]) -> AsyncGenerator[Event, None]:
        """Run all jobs: those that may, side by side; results are told as they come.

        When it is closed or cancelled, so are the calls that are still running.
        """
        for group in self._groups(jobs):
            running = []
            for index in group:
                answer = _denial(jobs[index])
                if answer is None:
                    yield ToolCalled(jobs[index].call)
                    running.append(index)
                else:
                    self.results[index] = answer
                    yield ToolAnswered(answer)
            happened: asyncio.Queue[Event | BaseException] = asyncio.Queue()
            tasks = [asyncio.create_task(self._run(index, jobs[index], happened)) for index in running]
            try:
                left = len(tasks)
                while left:
                    event = await happened.get()
                    if isinstance(event, BaseException):
                        raise event
                    if isinstance(event, ToolAnswered):
                        left -= 1
                    yield event
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, index: int, job: Job, happened: asyncio.Queue[Event | BaseException]) -> None:
        call = job.call
        if job.approval is not None and "arguments" in job.approval:
            call = call.model_copy(update={"arguments": job.approval["arguments"]})
        try:
            with self._span.tool(call, self._tools.get(call.name)) as told:
                result = await run_call(self._tools, self._context(call, happened.put_nowait), timeout=self._timeout)
                told.answered(result)
        except BaseException as error:
            happened.put_nowait(error)
            raise
        self.results[index] = result
        happened.put_nowait(ToolAnswered(result))

    def _groups(self, jobs: Sequence[Job]) -> Iterator[list[int]]:
        """The indexes of jobs that run side by side, in call order."""
        group: list[int] = []
        for index, job in enumerate(jobs):
            chosen = self._tools.get(job.call.name)
            if chosen is None or chosen.parallel:
                group.append(index)
                continue
            if group:
                yield group
            yield [index]
            group = []
        if group:
            yield group


def _denial(job: Job) -> ToolResultPart | None:
    if job.approval is None or job.approval.get("approve"):
        return None
    reason = job.approval.get("reason")
    return failure(job.call, f"the call was denied{f': {reason}' if reason else ''}")
