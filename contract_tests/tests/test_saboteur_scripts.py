"""The faults that overlap, size, identity, cancellation, failing waits and restarts bring to light are real: a few
calls show each, and show nothing on the sound store that it is made of."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Final

import fault_scripts
import input_scripts
import overlap_scripts
import pytest
from script_calls import Script, say

import threadkeep_contract.saboteurs as plugin
from threadkeep.port import Guard, Thread, open_store, register
from threadkeep_contract.saboteurs import SABOTEURS, SOUND

SCRIPTS: Final[dict[str, Script]] = {**overlap_scripts.SCRIPTS, **fault_scripts.SCRIPTS, **input_scripts.SCRIPTS}


@pytest.mark.parametrize("fault", SCRIPTS)
def test_the_fault_is_real(fault: str, tmp_path: Path) -> None:
    register("saboteur", plugin)
    base = next(name for name, kind in reversed(SOUND.items()) if issubclass(SABOTEURS[fault], kind))

    async def run(name: str) -> object:
        async with AsyncExitStack() as opened:

            def at() -> Guard:
                store = open_store(f"saboteur://{name}{tmp_path}/{name}.db")
                opened.push_async_callback(store.close)
                return store

            return await SCRIPTS[fault](at)

    assert asyncio.run(run(fault)) != asyncio.run(run(base))


def test_positions_in_16_bits_are_negative_behind_the_last_one(tmp_path: Path) -> None:
    register("saboteur", plugin)
    path = tmp_path / "store.db"

    async def run(name: str) -> object:
        store = open_store(f"saboteur://{name}{path}")
        await say(store, Thread("alice", name), "a1")
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE threads SET newest = 32767 WHERE thread_id = ?", (name,))
        positions = (await say(store, Thread("alice", name), "a2")).positions
        await store.close()
        return positions

    assert asyncio.run(run("sound-file")) == [32768]
    assert asyncio.run(run("positions-in-16-bits")) == [-32768]
