"""Workers that are forked, so that not each of them has to import the modules of the store's driver.

A fork server, `python -m threadkeep_contract.processes.forkserver FD`, is a fresh interpreter that imports the worker,
and the plugin of each scheme that it is asked for, and does nothing else: it opens no store and has no event loop and
no thread, so that a process forked from it is as one that has just been started. What Python draws when it starts, the
seed of `hash()`, is the same for all that one server forks. A store whose locks are numbered by `hash()` would go
unnoticed if racing workers had one seed, and so they are forked by several servers.

Only on Linux. Where no fork server serves, a worker is started as a fresh interpreter.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final

ANSWER_SECONDS: Final = 60.0
"""Seconds for the answer of a fork server, which may have to import a driver; it is given up afterwards."""

LOST: Final = 256
"""The status, which no process has, of a worker that nobody could collect because its fork server had been killed."""

_LONGEST: Final = 65536
"""Bytes of a request or an answer, at most."""


class ForkedProcess:
    """A process that a fork server forked: as much of `subprocess.Popen` as a worker needs."""

    def __init__(self, server: ForkServer, pid: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self.pid: Final = pid
        self.stdin: Final = stdin
        self.stdout: Final = stdout
        self.returncode: int | None = None
        self._server = server
        # The server collects the process only when told, so that until then no other has its number.
        self._handle = os.pidfd_open(pid)

    def kill(self) -> None:
        """SIGKILL, unless the process has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, once there is one. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        if self.returncode is None:
            ended = select.poll()
            ended.register(self._handle, select.POLLIN)
            if not ended.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired("a worker process", timeout or 0)
            os.close(self._handle)
            self.returncode = self._server.collect(self.pid)
        return self.returncode


class ForkServer:
    """A fork server, as its parent sees it. It ends with its parent, or when it does not answer."""

    def __init__(self) -> None:
        self._environment = _environment()
        self._running = 0
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(ANSWER_SECONDS)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=self._environment[1],
            )
        atexit.register(self.end)

    def end(self) -> None:
        """Let the process end, and collect it. Safe to repeat."""
        atexit.unregister(self.end)
        self._control.close()
        try:
            self.process.wait(ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def outdated(self) -> bool:
        """Whether a fresh interpreter would have another environment, and no worker of this one is left."""
        return not self._running and self._environment != _environment()

    def fork(self, scheme: str, errors: IO[bytes], module: str = "", path: Sequence[str] = ()) -> ForkedProcess | None:
        """A worker for stores of a scheme, which writes its errors into a file; None where this process has none.

        `module` and `path` are as in `worker.load`.
        """
        if self._environment != _environment():
            return None
        theirs, stdin = os.pipe()
        stdout, theirs_too = os.pipe()
        try:
            pid = self._ask({"fork": [scheme, module, path]}, [theirs, theirs_too, errors.fileno()]).get("pid")
        finally:
            os.close(theirs)
            os.close(theirs_too)
        if pid is None:
            os.close(stdin)
            os.close(stdout)
            return None
        self._running += 1
        return ForkedProcess(self, pid, os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb"))

    def collect(self, pid: int) -> int:
        """The exit status of a worker that has ended."""
        self._running -= 1
        status: int = self._ask({"collect": pid}).get("status", LOST)
        return status

    def _ask(self, request: dict[str, Any], handles: Sequence[int] = ()) -> dict[str, Any]:
        """What the process answers; nothing where it has ended, or does so because it did not answer."""
        answer = b""
        with self._lock:
            try:
                socket.send_fds(self._control, [json.dumps(request).encode()], handles)
                answer = self._control.recv(_LONGEST)
            except OSError:
                pass
            finally:
                # An answer that came later would be taken for that to the next request.
                if not answer:
                    self.process.kill()
            found: dict[str, Any] = json.loads(answer or "{}")
            return found


def _environment() -> tuple[Path, dict[str, str]]:
    """What a process is started with. The name of the running test, which pytest keeps there, is no part of it."""
    return Path.cwd(), {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


COUNT: Final = 2
"""Fork servers of one process, each with a seed of `hash()` of its own."""

_servers: Final[dict[int, ForkServer]] = {}
_lock: Final = threading.Lock()


def fork(
    scheme: str, number: int, errors: IO[bytes], module: str = "", path: Sequence[str] = ()
) -> ForkedProcess | None:
    """The worker of a number in its team, by the fork server whose turn it is; None where that does not serve."""
    if not _forks():
        return None
    with _lock:
        turn = number % COUNT
        server = _servers.get(turn)
        if server is not None and server.outdated:
            server.end()
            server = None
        if server is None:
            server = _servers[turn] = ForkServer()
    return server.fork(scheme, errors, module, path)


def _forks() -> bool:
    """Whether processes can be forked and watched here: elsewhere than on Linux, libraries may have started threads."""
    if sys.platform != "linux":
        return False
    # Old kernels, and some containers, do not allow it.
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def serve(control: socket.socket) -> bool:
    """Fork a worker for each request. True in the worker; False when the parent is gone."""
    # Ctrl-C goes to the parent too, which then ends its workers and needs their fork server for it.
    interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)
    from threadkeep_contract.processes.worker import load

    while True:
        message, handles, _, _ = socket.recv_fds(control, _LONGEST, 3)
        if not message:
            return False
        answer: dict[str, int | None] = {}
        match json.loads(message):
            case {"collect": pid}:
                answer = {"status": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}
            case {"fork": [scheme, module, path]}:
                # A fresh interpreter will show what is wrong with the plugin.
                with contextlib.suppress(Exception):
                    load(scheme, module, path)
                sys.stdout.flush()
                # What the garbage collector does not visit stays shared memory.
                gc.collect()
                gc.freeze()
                pid = os.fork() if len([*Path("/proc/self/task").iterdir()]) == 1 else None
                if pid == 0:
                    control.close()
                    signal.signal(signal.SIGINT, interrupted)
                    for standard, handle in enumerate(handles):
                        os.dup2(handle, standard)
                        os.close(handle)
                    return True
                answer = {"pid": pid}
        for handle in handles:
            os.close(handle)
        control.send(json.dumps(answer).encode())


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        forked = serve(parent)
    if forked:
        from threadkeep_contract.processes.worker import work

        asyncio.run(work())
