"""The servers of the tests: found or named as missing, and ended whatever happens to those who started them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import newest
import pytest
import servers
from servers import Kind, Native

HERE = Path(__file__).parent
COMMON = HERE.parent / "common"


class Sleeper(Kind):
    """A program that does nothing, and answers as soon as it runs."""

    name = "sleeper"
    variable = "THREADKEEP_TEST_SLEEPER_URL"
    package = "sleeper-package"
    program: Path | None = Path(sys.executable)

    def find(self) -> Path | None:
        return self.program

    def command(self, program: Path, folder: Path, port: int) -> Sequence[str]:
        return [str(program), "-S", "-c", "import time; time.sleep(600)"]

    def url(self, host: str, port: int) -> str:
        return f"sleeper://{host}:{port}"

    def answers(self, host: str, port: int) -> bool:
        return True


class Absent(Sleeper):
    name = "absent"
    variable = "THREADKEEP_TEST_ABSENT_URL"
    program = None


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_server_is_named_and_with_ci_set_it_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome) as raised:
        servers.private(Absent())
    for way in ("scripts/install_servers.sh", "sleeper-package", "THREADKEEP_TEST_ABSENT_URL"):
        assert way in str(raised.value)


def test_a_url_in_the_environment_comes_before_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADKEEP_TEST_ABSENT_URL", "sleeper://elsewhere:1")
    monkeypatch.setattr(servers, "_shared", {})
    assert servers.shared(Absent()).url == "sleeper://elsewhere:1"


def test_a_server_is_killed_started_on_its_folder_and_stopped() -> None:
    server = servers.private(Sleeper())
    assert isinstance(server, Native)
    folder, url = server.folder, server.url
    (folder / "data").touch()
    server.kill()
    server.start()
    assert (server.folder, server.url) == (folder, url)
    assert (folder / "data").exists()
    server.stop()
    server.stop()
    assert not folder.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a port cannot be kept for a server that comes later")
def test_a_port_is_kept_for_the_server_that_will_start_on_it() -> None:
    port = servers.free_port()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    for _ in range(2):
        with socket.create_server(("127.0.0.1", port)):
            socket.create_connection(("127.0.0.1", port)).close()


def test_a_server_ends_with_those_who_started_it_even_if_they_are_killed() -> None:
    program = (
        "import sys, time, servers, test_servers; server = servers.private(test_servers.Sleeper()); "
        "print(server._process.pid, server.folder, flush=True); time.sleep(600)"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{COMMON}{os.pathsep}{HERE}"},
    )
    assert starter.stdout is not None
    with starter.stdout as told:
        pid, folder = told.readline().split()
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    deadline = time.monotonic() + 20
    while Path(folder).exists() or _runs(int(pid)):
        assert time.monotonic() < deadline, f"{pid} or {folder} is still there"
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked about yet does not."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("text", "postgresql", "redis"),
    [
        ("", None, None),
        ("valkey-9", None, "valkey-9"),
        ("postgresql-18 redis-8", "postgresql-18", "redis-8"),
    ],
)
def test_the_environment_names_the_newest_servers_that_are_taken(
    text: str, postgresql: str | None, redis: str | None
) -> None:
    for family, name in (("postgresql", postgresql), ("redis", redis)):
        found = newest.asked_for(family, {newest.VARIABLE: text})
        assert (found.name if found else None) == name


@pytest.mark.parametrize(("text", "said"), [("redis-9", "known are .*redis-8"), ("redis-8 valkey-9", "one of them")])
def test_a_server_that_is_not_known_or_one_too_many_is_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        newest.asked_for("redis", {newest.VARIABLE: text})


def test_each_newest_server_is_one_that_the_script_installs_and_nox_judges() -> None:
    root = HERE.parents[2]
    script = (root / "scripts" / "install_newest_servers.sh").read_text()
    for one in newest.NEWEST:
        assert f"[{one.name}]='{one.path}" in script
        assert f'"{one.name}"' in (root / "noxfile.py").read_text()
