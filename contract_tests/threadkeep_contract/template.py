"""A process of which workers are copies, so that not each of them has to import the modules of the store's driver.

`python -m threadkeep_contract.template FD` imports the worker and the plugin of each scheme that it is asked for, and
does nothing else: it opens no store and has no event loop and no thread, so that its copy is as a worker that has just
begun. What differs from process to process because it is made when Python starts, the seed of `hash()`, differs from
template to template only; workers that race take turns among several.

Only on Linux. Where there is no template for a worker, it is started as a fresh interpreter.
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

PATIENCE: Final = 60.0
"""Seconds for a template's answer, which may have to import a driver; it is given up afterwards."""

LOST: Final = 256
"""The status, which no process has, of a worker that nobody could collect because its template had been killed."""

_LONGEST: Final = 65536
"""Bytes of a request or an answer, at most."""


class Copy:
    """A worker that a template forked: as much of `subprocess.Popen` as a worker needs."""

    def __init__(self, template: Template, pid: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self.pid: Final = pid
        self.stdin: Final = stdin
        self.stdout: Final = stdout
        self.returncode: int | None = None
        self._template = template
        # The template collects the process only when told, so that until then the number is of no other.
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
            self.returncode = self._template.collect(self.pid)
        return self.returncode


class Template:
    """The parent's side. It ends with the process that started it, or when it does not answer."""

    def __init__(self) -> None:
        self._environment = _environment()
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(PATIENCE)
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
        self._control.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def fork(self, scheme: str, errors: IO[bytes]) -> Copy | None:
        """A worker for stores of a scheme, which writes its errors into a file; None where this process has none."""
        # A fresh interpreter would see what has changed since this one began.
        if self._environment != _environment():
            return None
        theirs, stdin = os.pipe()
        stdout, theirs_too = os.pipe()
        try:
            pid = self._ask({"fork": scheme}, [theirs, theirs_too, errors.fileno()]).get("pid")
        finally:
            os.close(theirs)
            os.close(theirs_too)
        if pid is None:
            os.close(stdin)
            os.close(stdout)
            return None
        return Copy(self, pid, os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb"))

    def collect(self, pid: int) -> int:
        """The exit status of a worker that has ended."""
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
"""Templates of one process, so that workers that race do not all have the same seed of `hash()`."""

_templates: Final[dict[int, Template]] = {}
_lock: Final = threading.Lock()


def fork(scheme: str, number: int, errors: IO[bytes]) -> Copy | None:
    """The worker of a number in its team, of one of this process's templates; None where there is none for it."""
    if not _forks():
        return None
    with _lock:
        turn = number % COUNT
        if turn not in _templates:
            _templates[turn] = Template()
    return _templates[turn].fork(scheme, errors)


def _forks() -> bool:
    """Whether processes can be copied and watched here: elsewhere than on Linux, a copy may not be sound."""
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
    from threadkeep_contract.worker import load

    # Ctrl-C goes to the parent too, which then ends its workers and needs their template for it.
    interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        message, handles, _, _ = socket.recv_fds(control, _LONGEST, 3)
        if not message:
            return False
        answer: dict[str, int | None] = {}
        match json.loads(message):
            case {"collect": pid}:
                answer = {"status": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}
            case {"fork": scheme}:
                # A fresh interpreter will show what is wrong with the plugin.
                with contextlib.suppress(Exception):
                    load(scheme)
                sys.stdout.flush()
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
        from threadkeep_contract.worker import work

        asyncio.run(work())
