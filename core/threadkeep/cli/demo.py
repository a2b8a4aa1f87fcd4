"""`threadkeep demo`."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import click

from threadkeep.cli.options import without_secrets
from threadkeep.cli.output import shown_time
from threadkeep.port import URL_VARIABLE

if TYPE_CHECKING:
    from threadkeep.agent import Agent
    from threadkeep.handles import Memory
    from threadkeep.models import ModelRequest

ALICE: Final = "demo_alice"
BOB: Final = "demo_bob"

_WIDTH: Final = len(f"{ALICE} / holiday")
_ORDER: Final = re.compile(r"order (\d+)", re.IGNORECASE)
_CHILD_SECONDS: Final = 60
"""How long the new process may take before the demo gives up; it takes well under a second."""


@click.command
@click.option(
    "--store",
    "url",
    metavar="URL",
    help="Where to keep the conversations; a temporary SQLite file unless given. A second run there adds nothing.",
)
def command(url: str | None) -> None:
    """See two users, several threads and two agents kept apart, offline and in seconds.

    The agent loop and the store are the real ones. Only the model follows a script: it answers from the messages that
    it is shown, so that its answers tell what it can see.
    """
    store = _temporary_url() if url is None else _given_url(url)
    with store as (place, text):
        click.echo(text)
        asyncio.run(_tell(place))
    if url is None:
        click.echo("\nThe file was temporary and is gone. To keep one: threadkeep demo --store sqlite:///demo.db")


@contextmanager
def _temporary_url() -> Iterator[tuple[str, str]]:
    with TemporaryDirectory(prefix="threadkeep-demo-") as folder:
        path = (Path(folder) / "demo.db").as_posix()
        yield f"sqlite:///{quote(path, safe='/:')}", f"Everything is kept in one SQLite file, {path}"


@contextmanager
def _given_url(url: str) -> Iterator[tuple[str, str]]:
    yield url, f"Everything is kept in {without_secrets(url)}"


async def _tell(url: str) -> None:
    from threadkeep.agent import Agent
    from threadkeep.handles import Memory
    from threadkeep.models import ScriptedModel
    from threadkeep.port import Clause

    async with Memory(url) as memory:
        support = Agent(name="support", model=ScriptedModel(_replies("I have noted")), memory=memory)
        billing = Agent(name="billing", model=ScriptedModel(_replies("A refund is on its way for")), memory=memory)
        await _users(memory, support)
        await _agents(memory, billing)
        await _repeat(memory, support)
        await _lists(memory)
        alone = memory.store.not_offered.get(Clause.PROCESSES)
        if alone is not None:
            _head("6. Another process would see nothing of this store")
            _remark(f"{alone}; try the demo without --store")
            return
    _head("6. A new process opens the store, and all of it is there")
    _in_new_process(url, "threads", "--resource", ALICE)
    _in_new_process(url, "messages", "--resource", ALICE, "--thread", "support")


async def _users(memory: Memory, support: Agent) -> None:
    _head('1. Two users, and both call their thread "support"')
    await _say(support, ALICE, "support", "1", "Hello, my order 4711 arrived broken.")
    await _say(support, BOB, "support", "1", "Hello, what is my order number?")
    _remark("One agent, one memory, one thread id: bob's conversation holds nothing of alice's.")
    _head("2. Alice opens a second thread, then goes back to her first")
    await _say(support, ALICE, "holiday", "1", "What is my order number?")
    await _say(support, ALICE, "support", "2", "What was my order number again?")
    _remark("Her threads know nothing of each other, and each continues where it stopped.")


async def _agents(memory: Memory, billing: Agent) -> None:
    _head("3. A second agent: in alice's thread it shares what was said, in a thread of its own it does not")
    await _say(billing, ALICE, "support", "3", "Can I have my money back?")
    await _say(billing, ALICE, "billing", "1", "Can I have my money back?")
    _remark("Agents share a thread by being given its id, and in no other way.")


async def _repeat(memory: Memory, support: Agent) -> None:
    _head("4. Alice's phone sends her last question to support a second time")
    thread = memory.thread(ALICE, "support")
    before = len(await thread.messages())
    await _say(support, ALICE, "support", "2", "What was my order number again?")
    _remark(f"The answer is the stored one: {before} messages before, {len(await thread.messages())} after.")


async def _lists(memory: Memory) -> None:
    _head("5. The threads of each user, the last touched first")
    for resource_id in (ALICE, BOB):
        click.echo(f"   {click.style(resource_id, bold=True)}")
        async for info in memory.resource(resource_id).threads(order="active"):
            count = len(await memory.thread(resource_id, info.thread_id).messages())
            click.echo(f"     {info.thread_id:<9}{count} messages, last active {shown_time(info.updated_at)}")


def _replies(known: str) -> Callable[[ModelRequest], str]:
    """A script that answers from nothing but the user's messages in the request."""

    def answer(request: ModelRequest) -> str:
        said = " ".join(message.text for message in request.messages if message.role == "user")
        orders = _ORDER.findall(said)
        if not orders:
            return "You have told me no order number in this conversation."
        asked = "number" in request.messages[-1].text
        return f"Your order is {orders[-1]}." if asked else f"{known} order {orders[-1]}."

    return answer


async def _say(agent: Agent, resource_id: str, thread_id: str, message_id: str, text: str) -> None:
    from threadkeep.messages import Message

    # With an id from the client, a second run of the demo is a repetition of the first and stores nothing new.
    message = Message.user(text, id=f"demo-{message_id}")
    reply = await agent.generate(message, resource_id=resource_id, thread_id=thread_id)
    place = f"{resource_id} / {thread_id}".ljust(_WIDTH)
    click.echo(f"   {click.style(place, dim=True)}  {'user':<7}  {text}")
    click.echo(f"   {click.style(place, dim=True)}  {click.style(f'{agent.name:<7}', fg='cyan')}  {reply.text}")


def _head(text: str) -> None:
    click.echo("\n" + click.style(text, bold=True))


def _remark(text: str) -> None:
    click.echo("   " + click.style(f"-> {text}", fg="green"))


def _in_new_process(url: str, *arguments: str) -> None:
    click.echo(f"\n   $ threadkeep {' '.join(arguments)} --store {without_secrets(url)}")
    # -P: the working directory's own modules are none of this program's.
    finished = subprocess.run(
        [sys.executable, "-P", "-m", "threadkeep", *arguments],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, URL_VARIABLE: url, "PYTHONIOENCODING": "utf-8"},
        timeout=_CHILD_SECONDS,
        check=False,
    )
    if finished.returncode:
        raise click.ClickException(f"the new process failed: {finished.stderr.strip()}")
    for line in finished.stdout.splitlines():
        if line.strip():
            click.echo(f"   {line.rstrip()}")
