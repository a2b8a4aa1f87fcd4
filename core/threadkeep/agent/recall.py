"""What one run recalls and notes: the messages that the model is shown, its working memory, the thread's title."""

from __future__ import annotations

from collections.abc import Sequence

from threadkeep.agent.context import instructions_with, own_messages, shown
from threadkeep.agent.events import TitleChanged, TitleFailed
from threadkeep.agent.hooks import RunContext
from threadkeep.agent.options import LAST, MemoryOptions
from threadkeep.agent.settings import AgentSettings
from threadkeep.agent.titles import TitleMaker, Titling, failed, give_title
from threadkeep.agent.turn import Turn
from threadkeep.agent.working_memory import TOOL_NAME, RunMemory
from threadkeep.errors import InvalidInput, ProcessorFailed
from threadkeep.handles.thread import ThreadHandle
from threadkeep.messages.model import Message
from threadkeep.models.model import ModelRequest
from threadkeep.models.tools import Tool


def check_tools(settings: AgentSettings, options: MemoryOptions) -> None:
    """Raises InvalidInput where a tool of the agent has the name of that of its working memory."""
    if options.working_memory is not None and TOOL_NAME in settings.tools:
        raise InvalidInput(
            f"agent {settings.name!r} has a tool {TOOL_NAME!r}, "
            "which is the name of the one that changes working memory"
        )


class Recall:
    """What one run recalls and notes. Raises InvalidInput for options that its agent cannot have."""

    def __init__(self, settings: AgentSettings, options: MemoryOptions) -> None:
        self.options = options
        self._settings = settings
        self._processors = settings.processors
        self._maker: TitleMaker | None = None if options.read_only else settings.title
        self._memory = None
        if options.working_memory is not None and options.recall:
            self._memory = RunMemory(options, options.working_memory)
        self._titling: Titling | None = None
        check_tools(settings, options)
        self.tools: dict[str, Tool] = dict(settings.tools)
        if self._memory is not None and not options.read_only:
            self.tools[TOOL_NAME] = self._memory.tool()

    @property
    def window(self) -> int:
        """How many of the thread's newest messages are loaded; also without recall, to find a repeated request."""
        return self.options.loaded if self.options.recall else LAST

    async def before_commit(self, messages: Sequence[Message], thread: ThreadHandle) -> list[Message]:
        """Messages as they shall be stored. Raises ProcessorFailed."""
        return await self._processors.before_commit(messages, self._context(thread))

    def begin(self, turn: Turn, thread: ThreadHandle) -> None:
        """Take note of what was loaded with a turn, once its request is stored, and begin a title if one is needed."""
        if self._memory is not None:
            known = turn.working_memory if self.options.working_memory == "thread" else turn.resource_memory
            self._memory.begin(known, turn.tail.epoch)
        if self._maker is not None and turn.title is None and _is_first(turn):
            self._titling = Titling(self._give_title(self._maker, turn, thread))

    async def request(self, turn: Turn, thread: ThreadHandle) -> ModelRequest:
        """The next call of the model in a turn. Raises ProcessorFailed."""
        memory = None if self._memory is None else self._memory.instructions()
        messages = await self._processors.before_model(shown(turn, self.options), self._context(thread))
        return ModelRequest(
            instructions_with(self._settings.instructions, memory), messages, tuple(self.tools.values())
        )

    def title_news(self) -> list[TitleChanged | TitleFailed]:
        """What has become of the title, once, as soon as it is known."""
        news = None if self._titling is None else self._titling.news()
        return [] if news is None else [news]

    async def wait_for_title(self) -> None:
        """Wait for the title for a while, if one is being made."""
        if self._titling is not None:
            await self._titling.wait()

    def _context(self, thread: ThreadHandle) -> RunContext:
        return RunContext(self._settings.name, thread.resource_id, thread.thread_id)

    async def _give_title(
        self, maker: TitleMaker, turn: Turn, thread: ThreadHandle
    ) -> TitleChanged | TitleFailed | None:
        try:
            said = await self._processors.before_model(turn.context, self._context(thread))
        except ProcessorFailed as error:
            return failed(thread, error)
        return await give_title(maker, said, thread, turn.tail.epoch)


def _is_first(turn: Turn) -> bool:
    """Whether nobody has answered anything in the thread before this turn."""
    return own_messages(turn.context) == 0 and turn.context[0].position in (None, 1)
