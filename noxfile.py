"""Everything that is checked before a change is taken: `nox` runs it all, `nox -s NAME` one part, `nox -l` lists.

With CI set in the environment nothing may be skipped: a test that skips, or a tool or server that is missing, fails.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
OLDEST = (3, 11)
ONCE = (
    "contract_tests/tests/test_saboteurs.py",
    "core/tests/project/test_no_skips.py",
    "core/tests/project/test_packaging.py",
    "adapters/tests/stores/test_agent_crashes.py",
    "adapters/tests/stores/test_agent_guide.py",
    "adapters/tests/stores/test_copy.py",
    "adapters/tests/stores/test_differential.py",
    "adapters/tests/dynamodb/test_connections.py",
    "adapters/tests/dynamodb/test_kills.py",
    "adapters/tests/dynamodb/test_opening.py",
    "adapters/tests/dynamodb/test_throttling.py",
    "adapters/tests/stores/test_faults.py",
    "adapters/tests/mongo/test_connections.py",
    "adapters/tests/mongo/test_interleaving.py",
    "adapters/tests/mongo/test_kills.py",
    "adapters/tests/mongo/test_opening.py",
    "adapters/tests/postgresql/test_pool.py",
    "adapters/tests/redis/test_cluster.py",
)
"""What takes minutes and is the same on every Python: it is tried on the one that runs nox. Each store is judged by the
contract on every other too, and with it what is the interpreter's own: SQLite, event loops, extensions in C."""
ONCE_JUDGED = "TestMongodbOnFerretdb"
"""A contract suite that takes minutes, of a store that is judged on another server too: as above."""
IN_PARALLEL = ["-n", str(2 * (os.cpu_count() or 1)), "--dist", "worksteal", "--durations=20"]
"""Two processes for each processor, since tests wait for disks, servers and one another more than half of their time.
What stands together, and may share a server, is mostly run by one of them."""
STORES = ".[contract,dynamodb,mongo,postgres,redis]"
NO_SKIPS = ["--no-skips"] if os.environ.get("CI") else []

_FINAL = (
    "import sys, venv, ensurepip;"
    "assert sys.implementation.name == 'cpython' and sys.version_info.releaselevel == 'final';"
    "print(*sys.version_info[:2])"
)


def _folders() -> Iterator[Path]:
    """Where interpreters may be: the PATH, and where pyenv and uv put those that are not on it."""
    yield from (Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR", Path.home() / ".local" / "share" / "uv" / "python"))
    for versions in (pyenv / "versions", uv):
        yield from sorted(versions.glob("*/bin"), reverse=True)


def _pythons() -> dict[str, Path]:
    """The Python versions found, oldest first, each with one interpreter that runs and can make environments."""
    here = sys.version_info[:2]
    found = {here: Path(sys.executable)}
    for folder in _folders():
        for candidate in folder.glob("python3.*"):
            match = re.fullmatch(r"python3\.(\d+)", candidate.name)
            version = (3, int(match.group(1))) if match else here
            if version in found or version < OLDEST:
                continue
            # A shim of pyenv has the name and does not run, so that only running it tells.
            run = subprocess.run([candidate, "-c", _FINAL], capture_output=True, text=True, check=False)
            if run.returncode == 0 and run.stdout.split() == [str(part) for part in version]:
                found[version] = candidate
    return {f"{major}.{minor}": found[major, minor] for major, minor in sorted(found)}


PYTHONS = _pythons()
HERE = "{}.{}".format(*sys.version_info)
# Processes would each compile what is not compiled yet: an environment's modules, and tests as pytest rewrites them.
os.environ["UV_COMPILE_BYTECODE"] = "1"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# What was released since is no reason for a check to fail. UV_CONSTRAINT= tries the newest of everything.
os.environ.setdefault("UV_CONSTRAINT", str(ROOT / "constraints.txt"))
os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], *(str(path.parent) for path in PYTHONS.values())])

nox.needs_version = ">=2025.5"
nox.options.sessions = ["lint", "types", "tests", "contract", "docs"]
nox.options.error_on_missing_interpreters = True
nox.options.error_on_external_run = True
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True


def _group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PROJECT, name)


def _depth(session: nox.Session) -> list[str]:
    """The Python that runs nox gets the profile of the contract that each suite says, every other the brief one.

    A seed of its own lets each try another part of what a profile takes a share of.
    """
    if session.python == HERE:
        return []
    return ["--contract-profile=brief", f"--contract-seed={str(session.python).partition('.')[2]}"]


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: rules and format."""
    session.install(*_group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict, over everything that is typed."""
    session.install("-e", ".[all]", *_group("types"), *_group("test"))
    session.run("mypy", "--num-workers", "auto")


@nox.session(python=list(PYTHONS))
def tests(session: nox.Session) -> None:
    """The tests, beside the installed distribution. Arguments after `--` go to pytest."""
    session.install(".[all]", *_group("test"))
    elsewhere = ["adapters/tests/stores/test_contract.py", "core/tests/project/test_docs.py"]
    if session.python != HERE:
        elsewhere.extend(ONCE)
    where = session.posargs or [*IN_PARALLEL, *(f"--ignore={path}" for path in elsewhere)]
    session.run("pytest", *NO_SKIPS, *where)


@nox.session(python=list(PYTHONS))
def contract(session: nox.Session) -> None:
    """The contract on each store that is registered. Arguments after `--` name some, as in the suites' URLS."""
    session.install(STORES, *_group("servers"))
    suites = "adapters/tests/stores/test_contract.py"
    some = [f"{suites}::Test{judged.title().replace(' ', '')}" for judged in session.posargs]
    if session.python != HERE and not some:
        some = [suites, "-k", f"not {ONCE_JUDGED}"]
    session.run("pytest", *IN_PARALLEL, *NO_SKIPS, *_depth(session), *(some or [suites]))


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation: headings, links, examples run; the example store judged; the changelog's fragments."""
    session.install(".[all]", *_group("test"), *_group("docs"))
    session.install("--no-deps", "./docs/examples/acme-threads")
    session.run("pytest", *NO_SKIPS, "core/tests/project/test_docs.py")
    session.run("pytest", *IN_PARALLEL, *NO_SKIPS, "--contract-profile=quick", "docs/examples/acme-threads")
    session.run("towncrier", "build", "--draft", "--version", PROJECT["project"]["version"])


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks of all stores whose servers are there. After `--`: names of some, then options of the scripts."""
    session.install(".[all]", *_group("bench"), *_group("test"))
    session.run("python", "benchmarks/run.py", *session.posargs)


@nox.session(default=False)
def constraints(session: nox.Session) -> None:
    """Write the newest versions of everything into constraints.txt, from which every other session installs."""
    session.env["UV_CONSTRAINT"] = None
    session.install("uv")
    groups = [f"--group={name}" for name in ("dev", "bench")]
    session.run(
        *("uv", "pip", "compile", "--quiet", "--universal", f"--python-version={OLDEST[0]}.{OLDEST[1]}", "--upgrade"),
        *("--all-extras", *groups, "--no-annotate", "--custom-compile-command=nox -s constraints"),
        *("--output-file=constraints.txt", "pyproject.toml"),
    )
