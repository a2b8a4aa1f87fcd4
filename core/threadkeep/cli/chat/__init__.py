"""`threadkeep chat`."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

import click

from threadkeep.cli.options import store_option

if TYPE_CHECKING:
    from threadkeep.models import Model

SCRIPTED: Final = "scripted"
KEY_VARIABLE: Final = "THREADKEEP_API_KEY"


@click.command
@store_option
@click.option(
    "--resource", "resource_id", metavar="ID", required=True, help="Who is talking: the owner of the threads."
)
@click.option("--thread", "thread_id", metavar="ID", help="The thread to go on with; a new one unless given.")
@click.option(
    "--model",
    "name",
    metavar="NAME",
    envvar="THREADKEEP_MODEL",
    default=SCRIPTED,
    show_default=True,
    show_envvar=True,
    help=f"A model such as openai:gpt-4o, by the extra models; {SCRIPTED} follows a script and needs no key.",
)
@click.option(
    "--base-url",
    metavar="URL",
    envvar="THREADKEEP_BASE_URL",
    show_envvar=True,
    help=f"An endpoint that speaks OpenAI's protocol and has the model; {KEY_VARIABLE} holds its key.",
)
@click.option("--instructions", metavar="TEXT", help="What the model is told before the conversation.")
def command(
    url: str,
    resource_id: str,
    thread_id: str | None,
    name: str,
    base_url: str | None,
    instructions: str | None,
) -> None:
    """Talk with a model in the terminal, in threads that the store keeps.

    Ctrl-C stops an answer, and what was said by then stays; Ctrl-D or /quit ends. /help lists what else can be done:
    list and switch threads, rename, fork, look at the working memory. Where the input is no terminal, each line of it
    is a message or a command.
    """
    asyncio.run(_chat(url, resource_id, thread_id, _model(name, base_url), instructions))


def _model(name: str, base_url: str | None) -> Model:
    from threadkeep.models import as_model

    if name == SCRIPTED and base_url is None:
        from threadkeep.cli.chat.script import TypedScript

        return TypedScript()
    return as_model(name, base_url=base_url, api_key=os.environ.get(KEY_VARIABLE) if base_url is not None else None)


async def _chat(url: str, resource_id: str, thread_id: str | None, model: Model, instructions: str | None) -> None:
    from threadkeep.cli.chat.session import Session
    from threadkeep.handles import Memory
    from threadkeep.models import ProviderModel

    try:
        async with Memory(url) as memory:
            session = Session(memory, resource_id, thread_id, model, instructions, url)
            await session.run()
    finally:
        if isinstance(model, ProviderModel):
            await model.close()
