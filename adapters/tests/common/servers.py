"""Database servers for tests: one from a URL in the environment, from a container, or from programs on this machine.

A kind of server is a subclass of `Kind`, in a module of its own beside this one. A test says

    server = servers.shared(POSTGRESQL)     # one for all tests of this process, started at first use
    server = servers.private(POSTGRESQL)    # one that the test may kill and start again; never that of a URL

and reads `server.url`, which `servers.reserve(POSTGRESQL).url` tells before anything has started. With CI set in the
environment a server that cannot be had fails the test; without, it skips it, and says why. Whatever happens to this
process, a guard beside it ends the server and removes its folder.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import ClassVar, Final, NoReturn

import pytest

START_SECONDS: Final = 60.0
"""How long a server may take until it answers."""
STOP_SECONDS: Final = 10.0
"""How long a server may take to end before it is killed."""

_SCRIPT: Final = "scripts/install_servers.sh"


def folder_of_servers() -> Path:
    """Where the script puts what it builds or fetches itself."""
    given = os.environ.get("THREADKEEP_SERVERS")
    home = os.environ.get("XDG_CACHE_HOME")
    return Path(given) if given else (Path(home) if home else Path.home() / ".cache") / "threadkeep" / "servers"


def built(name: str) -> Path:
    """Where the script puts a server that it builds or fetches itself, whether it is there or not."""
    return folder_of_servers() / name


class ServerMissing(Exception):
    """A server cannot be had; the text says what is missing and how to get it."""


class Kind(ABC):
    """One kind of server: where it is found, how it starts, and how to tell that it answers."""

    name: ClassVar[str]
    variable: ClassVar[str]
    """The environment variable with the URL of a server that runs already."""
    image: ClassVar[str] = ""
    """The official container image; "" where there is none to use."""
    image_port: ClassVar[int] = 0
    image_environment: ClassVar[Mapping[str, str]] = {}
    image_command: ClassVar[Sequence[str]] = ()
    package: ClassVar[str]
    """Debian's package with the native programs; "" where the script alone installs them."""
    user: ClassVar[str] = ""
    """The user to be when the tests run as root, for programs that refuse root."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    profile: ClassVar[str] = "default"
    """How much of the contract is tried on it, unless `--contract-profile` says it."""
    slow: ClassVar[bool] = False
    """Whether its suite of the contract is marked slow."""
    left_behind: ClassVar[Sequence[pytest.MarkDecorator]] = ()
    """Marks of its tests that bear with what the driver leaves to the garbage collector."""

    @abstractmethod
    def find(self) -> Path | None:
        """The native program, or None."""

    def prepare(self, folder: Path, run: Run) -> None:  # noqa: B027 -- most servers need nothing
        """Make the data in an empty folder, once, before the first start. `run` runs a command as the server's user."""

    def published(self, port: int) -> Mapping[int, int]:
        """The ports inside of a container, each with that of this machine that leads to it; `port` is the server's."""
        return {self.image_port: port}

    def image_arguments(self, host: str, port: int) -> Sequence[str]:
        """The command that a container runs, for clients that reach it at this host and port."""
        return self.image_command

    @abstractmethod
    def command(self, program: Path, folder: Path, port: int) -> Sequence[str]:
        """The command that runs the native program in the foreground, on 127.0.0.1 and a port."""

    @abstractmethod
    def url(self, host: str, port: int) -> str:
        """The URL of the store on such a server."""

    @abstractmethod
    def answers(self, host: str, port: int) -> bool:
        """Whether the server takes work. Raises nothing. Blocks for at most some seconds."""

    def tidy(self, url: str) -> None:  # noqa: B027 -- most servers need nothing
        """Called between checks that share a server: remove what would make it slow for the next one."""


class Run:
    """Runs commands as a kind's user, where that has to be another one than this process's."""

    def __init__(self, kind: Kind) -> None:
        self.user = kind.user if kind.user and os.geteuid() == 0 else ""
        self.prefix: Sequence[str] = (
            ("setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--init-groups", "--") if self.user else ()
        )

    def __call__(self, *command: str, cwd: Path) -> None:
        """Run to the end. Raises ServerMissing with the output where the command fails."""
        done = subprocess.run([*self.prefix, *command], cwd=cwd, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerMissing(f"{' '.join(command)} failed: {done.stdout}{done.stderr}")

    def own(self, path: Path) -> None:
        """Give a file or folder to the user."""
        if self.user:
            shutil.chown(path, self.user, self.user)


class Server(ABC):
    """A server of a kind, at a host and port that stay its own over restarts."""

    def __init__(self, kind: Kind, host: str, port: int) -> None:
        self.kind = kind
        self.host = host
        self.port = port

    @property
    def url(self) -> str:
        return self.kind.url(self.host, self.port)

    @abstractmethod
    def start(self) -> None:
        """Start on the data that it has, and return when it answers."""

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL to the server with all its processes. What it has on disk stays."""

    @abstractmethod
    def stop(self) -> None:
        """End it and remove its data. Safe to repeat."""

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.kind.answers(self.host, self.port):
            if time.monotonic() > deadline:
                raise ServerMissing(f"{self.kind.name} does not answer on port {self.port}: {self.log()}")
            time.sleep(0.05)

    def log(self) -> str:
        """The end of what the server has said, for errors."""
        return ""


class Missing(Server):
    """A server that cannot be had, as whoever starts it is told."""

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(kind, "127.0.0.1", free_port())
        self._reason = reason

    def start(self) -> None:
        raise ServerMissing(self._reason)

    def kill(self) -> None:
        raise ServerMissing(self._reason)

    def stop(self) -> None:
        pass


class Given(Server):
    """A server that runs already and is nobody's to stop; its URL is in the environment."""

    def __init__(self, kind: Kind, url: str) -> None:
        super().__init__(kind, "", 0)
        self._url = url

    @property
    def url(self) -> str:
        return self._url

    def start(self) -> None:
        pass

    def kill(self) -> None:
        raise ServerMissing(f"the server of {self.kind.variable} is not the tests' to kill; use servers.private()")

    def stop(self) -> None:
        pass


class Native(Server):
    """A server from a program on this machine, with its data in a temporary folder."""

    def __init__(self, kind: Kind, program: Path) -> None:
        super().__init__(kind, "127.0.0.1", free_port())
        self._program = program
        self._run = Run(kind)
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: _Guard | None = None
        self.folder = Path()

    def start(self) -> None:
        if self._process is not None:
            return
        if self.folder == Path():
            self._make_folder()
        command = [*self._run.prefix, *self.kind.command(self._program, self.folder, self.port)]
        with (self.folder / "log").open("ab") as log:
            self._run.own(self.folder / "log")
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        group = str(self._process.pid)
        self._guard = _Guard('kill -s KILL -- "-$1"; rm -rf -- "$2"', group, str(self.folder))
        try:
            self._await_answer()
        except BaseException:
            self.stop()
            raise

    def _make_folder(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"threadkeep-{self.kind.name}-"))
        self._run.own(self.folder)
        try:
            self.kind.prepare(self.folder, self._run)
        except BaseException:
            self.stop()
            raise

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.kind.answers(self.host, self.port):
            ended = self._process is not None and self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                what = "ended" if ended else "does not answer"
                raise ServerMissing(f"{self.kind.name} {what} on port {self.port}: {self.log()}")
            time.sleep(0.05)

    def log(self) -> str:
        """The end of what the server has said, for errors."""
        path = self.folder / "log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if how != signal.SIGKILL:
            process.send_signal(how)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                how = signal.SIGKILL
        if how == signal.SIGKILL:
            # PostgreSQL's processes are groups of their own. A server that stands still makes no more of them.
            process.send_signal(signal.SIGSTOP)
            children = _children(process.pid)
            os.killpg(process.pid, signal.SIGKILL)
            for child in children:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            process.wait()
            deadline = time.monotonic() + STOP_SECONDS
            # What they share, and a new server would find in use, is let go of with the last of them.
            while any(map(_is_alive, children)) and time.monotonic() < deadline:
                time.sleep(0.005)
        if self._guard is not None:
            self._guard.release()
            self._guard = None

    def stop(self) -> None:
        self._end(self.kind.stop_signal)
        if self.folder != Path():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = Path()


class Container(Server):
    """A server from the kind's official image, by testcontainers."""

    def __init__(self, kind: Kind) -> None:
        os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
        from testcontainers.core.container import DockerContainer

        port = free_port()
        super().__init__(kind, os.environ.get("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1"), port)
        container = DockerContainer(kind.image)
        for inside, outside in kind.published(port).items():
            container = container.with_bind_ports(inside, outside)
        for name, value in kind.image_environment.items():
            container = container.with_env(name, value)
        arguments = kind.image_arguments(self.host, port)
        if arguments:
            container = container.with_command(list(arguments))
        self._container = container
        self._guard: _Guard | None = None

    def start(self) -> None:
        if self._guard is None:
            try:
                self._container.start()
            except Exception as error:
                raise ServerMissing(f"no container of the image {self.kind.image}: {error}") from error
            identity = self._container.get_wrapped_container().id or ""
            self._guard = _Guard('docker rm --force --volumes "$1" >/dev/null', identity)
        else:
            self._container.get_wrapped_container().start()
        self._await_answer()

    def kill(self) -> None:
        self._container.get_wrapped_container().kill(signal="SIGKILL")
        self._container.get_wrapped_container().wait()

    def log(self) -> str:
        """The end of what the server has said, for errors."""
        return "".join(part.decode(errors="replace") for part in self._container.get_logs())[-2000:]

    def stop(self) -> None:
        if self._guard is not None:
            self._container.stop(force=True, delete_volume=True)
            self._guard.release()
            self._guard = None


class _Guard:
    """A process that outlives this one just long enough to clean up after it."""

    def __init__(self, cleaning: str, *given: str) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", f"read -r released || {{ {cleaning}; }}", "threadkeep-test-guard", *given],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def release(self) -> None:
        """End the guard; there is nothing left to clean."""
        self._process.communicate(b"released\n")


def _children(pid: int) -> list[int]:
    """The children of a process; where the system has no /proc, none: they end by themselves then."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The fields after the name, which is in brackets and may hold anything: state, parent (proc(5)).
            parent = status.read_text().rpartition(")")[2].split()[1]
            if int(parent) == pid:
                found.append(int(status.parent.name))
    return found


def _is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked about (a zombie) does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses, and that on Linux no one is given until this process ends.

    A server may start on it minutes later, and again after it was killed, while other processes ask for ports.
    """
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    port: int = held.getsockname()[1]
    if sys.platform == "linux":
        # From now on whoever says the same may listen here, as servers do; others find the port taken.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        atexit.register(held.close)
    else:
        held.close()
    return port


@cache
def docker_answers() -> bool:
    """Whether there is a Docker engine."""
    if not shutil.which("docker"):
        return False
    asked = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, check=False, timeout=30
    )
    return asked.returncode == 0


def reserve(kind: Kind) -> Server:
    """The server of a kind that all tests of this process share, not yet started."""
    if kind.variable not in _shared:
        given = os.environ.get(kind.variable)
        _shared[kind.variable] = Given(kind, given) if given else _own(kind)
    return _shared[kind.variable]


def shared(kind: Kind) -> Server:
    """The server of a kind that all tests of this process share. Skips the test, or with CI set fails it, without."""
    return _started(reserve(kind))


def private(kind: Kind) -> Server:
    """A server of a kind that its test may kill, and should stop. As `shared`, but never that of a URL."""
    return _started(_own(kind))


_shared: Final[dict[str, Server]] = {}


def _started(server: Server) -> Server:
    try:
        server.start()
    except ServerMissing as missing:
        give_up(str(missing))
    return server


def _own(kind: Kind) -> Server:
    program = kind.find()
    server: Server
    if kind.image and docker_answers():
        server = Container(kind)
    elif program is not None:
        server = Native(kind, program)
    else:
        engine = "a Docker engine, " if kind.image else ""
        package = f", or apt-get install {kind.package}" if kind.package else ""
        return Missing(
            kind,
            f"there is no {kind.name} server for the tests: give {engine}{kind.name} on this machine "
            f"({_SCRIPT}{package}), or the URL of one in {kind.variable}",
        )
    atexit.register(server.stop)
    return server


def give_up(reason: str) -> NoReturn:
    """Skip the test, or with CI set fail it, for want of a server."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
