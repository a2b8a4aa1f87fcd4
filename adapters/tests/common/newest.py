"""The newest servers, in the place of those that the tests take else.

THREADKEEP_TEST_SERVERS names some, as in `THREADKEEP_TEST_SERVERS="postgresql-18 valkey-9"`. They come from containers,
or from programs that scripts/install_newest_servers.sh has put beside those of this system.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from servers import folder_of_servers

VARIABLE: Final = "THREADKEEP_TEST_SERVERS"
SHARED: Final = Path("/var/cache/threadkeep/servers")
"""Where the script puts them for root: PostgreSQL runs as another user, who cannot look into root's home."""


@dataclass(frozen=True)
class Newest:
    """A server of one version, which every kind that names its `family` takes."""

    name: str
    family: str
    image: str
    path: str
    """Its program, in the folder that the script has made."""

    def find(self) -> Path | None:
        """The native program, or None."""
        at_home = "THREADKEEP_SERVERS" in os.environ or os.geteuid() != 0
        program = (folder_of_servers() if at_home else SHARED) / self.name / self.path
        return program if program.exists() else None


NEWEST: Final = (
    Newest("postgresql-18", "postgresql", "postgres:18", "usr/lib/postgresql/18/bin/postgres"),
    Newest("redis-8", "redis", "redis:8", "usr/bin/redis-server"),
    Newest("valkey-9", "redis", "valkey/valkey:9", "usr/bin/valkey-server"),
)


def asked_for(family: str, environment: Mapping[str, str] = os.environ) -> Newest | None:
    """The server of a family that the environment names, or None. Raises ValueError for a name that is not known."""
    known = {one.name: one for one in NEWEST}
    names = environment.get(VARIABLE, "").split()
    for name in names:
        if name not in known:
            raise ValueError(f"{VARIABLE} names '{name}'; known are {', '.join(known)}, separated by spaces")
    found = [known[name] for name in names if known[name].family == family]
    if len(found) > 1:
        raise ValueError(
            f"{VARIABLE} names {' and '.join(one.name for one in found)}; one of them can be judged at a time"
        )
    return found[0] if found else None
