"""The rooms of the stores have one shape: a door with the hooks, declared options, files that answer one question."""

from __future__ import annotations

import re
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Final

import pytest

from threadkeep.port import hooks, installed_schemes
from threadkeep_adapters import loops

FOLDER: Final = Path(loops.__file__).parent
ARCHITECTURE: Final = Path(__file__).parents[3] / "docs" / "architecture.md"
STORES: Final = sorted(
    {
        entry.value
        for entries in installed_schemes().values()
        for entry in entries
        if entry.dist is not None and entry.dist.name == "threadkeep"
    }
)


@pytest.mark.parametrize("room", STORES)
def test_a_room_has_a_door_with_its_hooks_and_declares_its_options(room: str) -> None:
    door = import_module(room)
    offered = {name for name, value in vars(door).items() if hasattr(value, "threadkeep_impl")}
    specified = {name for name, value in vars(hooks).items() if hasattr(value, "threadkeep_spec")}
    assert set(door.__all__) == offered <= specified
    assert {"open_store", "scan_backend"} <= offered
    url = import_module(f"{room}.url")
    assert isinstance(url.OPTIONS, tuple)
    assert callable(url.read_url)


def test_the_page_says_what_each_file_name_of_several_rooms_answers() -> None:
    rooms = [FOLDER / room.rpartition(".")[2] for room in STORES]
    names = Counter(path.stem for room in rooms for path in room.glob("*.py"))
    assert len(rooms) > 5
    page = ARCHITECTURE.read_text(encoding="utf-8").partition("## The rooms of the adapters")[2]
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", page, re.MULTILINE)
    answered = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert {name for name, count in names.items() if count > 1} - answered == set()
