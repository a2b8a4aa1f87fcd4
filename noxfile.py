"""Everything that is checked before a change is taken: `nox` runs it all, `nox -s NAME` one part, `nox -l` lists.

With CI set in the environment nothing may be skipped: a test that skips, or a tool or server that is missing, fails.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
"""The classifiers of pyproject.toml: 3.11 and so on, the oldest first."""
OLDEST, NEWEST = PYTHONS[0], PYTHONS[-1]
HERE = "{}.{}".format(*sys.version_info)
WHOLE = [version for version in PYTHONS if version in (OLDEST, HERE, NEWEST)]
"""Where a plain `nox` runs all but slow tests of other shares: the oldest, the newest, and the Python that runs nox."""
BETWEEN = [version for version in PYTHONS if version not in WHOLE]
PARTS = 24
"""Into how many shares all tests are dealt on the Pythons between, each of which tries one."""
QUARTERS = 4
"""Into how many shares the contract of slow servers is dealt in its brief profile."""
IN_PARALLEL = ["-n", str(2 * (os.cpu_count() or 1)), "--dist", "worksteal", "--durations=20"]
"""Two processes for each processor, since tests wait for disks, servers and one another more than half of their time.
What stands together, and may share a server, is mostly run by one of them."""
STORES = ".[contract,dynamodb,mongo,postgres,redis]"
NO_SKIPS = ["--no-skips"] if os.environ.get("CI") else []
NEWEST_SERVERS = (("postgresql-18", "redis-8"), ("valkey-9",))
"""By runs, as scripts/install_newest_servers.sh names them. To the tests Redis and Valkey are one kind of server."""
NEWEST_PARTS = 24
"""Into how many shares the tests on the newest servers are dealt."""
CONTRACT = "adapters/tests/stores/test_contract.py"
DOCS = "core/tests/project/test_docs.py"
SABOTEURS = "adapters/tests/stores/test_adapter_saboteurs.py"


def _folders() -> Iterator[Path]:
    """Where pyenv, uv and scripts/install_pythons.sh put interpreters that are not on the PATH."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR", Path.home() / ".local" / "share" / "uv" / "python"))
    caches = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    ours = Path(os.environ.get("THREADKEEP_PYTHONS", caches / "threadkeep" / "pythons"))
    for version in PYTHONS:
        for found in (pyenv.glob(f"*/bin/python{version}"), uv.glob(f"*/bin/python{version}")):
            yield from (python.parent for python in sorted(found, reverse=True))
        yield ours / f"python{version}" / "usr" / "bin"


# Processes would each compile what is not compiled yet: an environment's modules, and tests as pytest rewrites them.
os.environ["UV_COMPILE_BYTECODE"] = "1"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# What was released since is no reason for a check to fail. UV_CONSTRAINT= tries the newest of everything.
os.environ.setdefault("UV_CONSTRAINT", str(ROOT / "constraints.txt"))
os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], *map(str, _folders())])

nox.needs_version = ">=2025.10.14"
nox.options.sessions = [
    *("lint", "types", "docs"),
    *(f"{session}-{version}" for version in WHOLE for session in ("tests", "contract")),
    *(f"between-{version}" for version in BETWEEN),
    "newest",
]
# A Python that is missing fails its sessions with CI set; else nox warns and goes on. It is not fetched unasked.
nox.options.error_on_missing_interpreters = bool(os.environ.get("CI"))
nox.options.download_python = "never"
nox.options.error_on_external_run = True
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True


def _group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PROJECT, name)


def _seed(session: nox.Session) -> str:
    """A seed of its own lets each Python try another part of what a profile of the contract takes a share of."""
    minor = 0 if session.python == OLDEST else int(str(session.python).partition(".")[2])
    return f"--contract-seed={minor}"


def _share(session: nox.Session) -> tuple[list[str], list[str]]:
    """What follows `--`: options of shares and of the seed, and all else."""
    shares = [word for word in session.posargs if word.startswith(("--share", "--seed"))]
    return shares, [word for word in session.posargs if word not in shares]


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


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests, and of the slow ones a share that the commit chooses. `-- --share=N` chooses another.

    All else after `--` goes to pytest, and is tried whole.
    """
    session.install(".[all]", *_group("test"))
    share, some = _share(session)
    every = [*IN_PARALLEL, f"--ignore={CONTRACT}", f"--ignore={DOCS}", "--share=commit"]
    session.run("pytest", *NO_SKIPS, *(some or every), *share)


@nox.session(python=PYTHONS)
def contract(session: nox.Session) -> None:
    """The contract on each store that is registered. Words after `--` name some, as in the suites' URLS.

    The oldest Python tries what each suite says in its profile, and of slow servers a share, as in `tests`. Every other
    one tries the brief profile, and of slow servers a quarter.
    """
    session.install(STORES, *_group("servers"))
    share, names = _share(session)
    some = [f"{CONTRACT}::Test{judged.title().replace(' ', '')}" for judged in names]
    where = some or [CONTRACT]
    oldest = session.python == OLDEST
    depth = [] if oldest else ["--contract-profile=brief"]
    part = [] if some else ["--share=commit" if oldest else f"--share=commit/{QUARTERS}"]
    session.run("pytest", *IN_PARALLEL, *NO_SKIPS, _seed(session), *depth, *part, *where, *share)


@nox.session(python=PYTHONS[1:-1])
def between(session: nox.Session) -> None:
    """A share of all tests and of the contract in its brief profile, for Pythons between the oldest and the newest."""
    session.install(".[all]", *_group("test"))
    share, some = _share(session)
    options = [*IN_PARALLEL, *NO_SKIPS, _seed(session), "--contract-profile=brief", f"--ignore={DOCS}"]
    session.run("pytest", *options, "--share-all", f"--share=commit/{PARTS}", *share, *some)


@nox.session
def newest(session: nox.Session) -> None:
    """A share of the stores' tests and of the contract in its brief profile, on PostgreSQL 18, Redis 8 and Valkey 9.

    Names of some after `--` choose these. `-- --share=0/1` is everything; all else goes to pytest, and is tried whole.
    """
    session.install(".[all]", *_group("test"))
    share, words = _share(session)
    known = [name for run in NEWEST_SERVERS for name in run]
    names = [name for name in known if name in words] or known
    some = [word for word in words if word not in known]
    deal = [] if some else ["--share-all", f"--share=commit/{NEWEST_PARTS}"]
    options = [*IN_PARALLEL, *NO_SKIPS, "--contract-profile=brief", *deal, *share]
    for run in NEWEST_SERVERS:
        if judged := [name for name in run if name in names]:
            families = sorted({"postgresql" if name.startswith("postgresql") else "redis" for name in judged})
            # Saboteurs judge the contract, which is the same on every server. Some ids of tests are the servers' names.
            stores = ["adapters/tests/stores", f"--ignore={SABOTEURS}", "-k", " or ".join([*families, *judged])]
            every = [*(f"adapters/tests/{family}" for family in families), *stores]
            session.run("pytest", *options, *(some or every), env={"THREADKEEP_TEST_SERVERS": " ".join(judged)})


@nox.session(python=PYTHONS, default=False)
def everything(session: nox.Session) -> None:
    """All shares: all tests, and the contract as each suite says, on every Python. It takes hours."""
    session.install(".[all]", *_group("test"))
    session.run("pytest", *IN_PARALLEL, *NO_SKIPS, _seed(session), f"--ignore={DOCS}", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation: headings, links, examples run; the example store judged; the changelog's fragments."""
    session.install(".[all]", *_group("test"), *_group("docs"))
    session.run("pytest", *NO_SKIPS, DOCS)
    folder = Path(session.create_tmp())
    example, installed = folder / "acme-store", folder / "installed"
    for old in (example, installed):
        shutil.rmtree(old, ignore_errors=True)
    session.run("threadkeep", "new-store", "acme", "--example", "sqlite", "--folder", str(example))
    # Beside the environment, which the next run uses again: there, acme:// would be taken.
    session.install("--no-deps", "--target", str(installed), str(example))
    judged = ("pytest", *IN_PARALLEL, *NO_SKIPS, "--contract-profile=quick", str(example))
    session.run(*judged, env={"PYTHONPATH": str(installed)})
    session.run("towncrier", "build", "--draft", "--version", PROJECT["project"]["version"])


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks of all stores whose servers are there. After `--`: names of some, then options of the scripts."""
    session.install(".[all]", *_group("bench"), *_group("test"))
    session.run("python", "benchmarks/run.py", *session.posargs)


@nox.session(default=False)
def mutants(session: nox.Session) -> None:
    """Mutants of a store, judged by the contract. After `--`: the target, then options (docs/mutants.md)."""
    session.install("-e", STORES, *_group("servers"))
    servers = str(ROOT / "adapters" / "tests" / "common")
    session.run("python", "mutants/mutate.py", *session.posargs, env={"PYTHONPATH": servers})


@nox.session(default=False)
def constraints(session: nox.Session) -> None:
    """Write the newest versions of everything into constraints.txt, from which every other session installs."""
    session.env["UV_CONSTRAINT"] = None
    session.install("uv")
    groups = [f"--group={name}" for name in ("dev", "bench")]
    session.run(
        *("uv", "pip", "compile", "--quiet", "--universal", f"--python-version={OLDEST}", "--upgrade"),
        *("--all-extras", *groups, "--no-annotate", "--custom-compile-command=nox -s constraints"),
        *("--output-file=constraints.txt", "pyproject.toml"),
    )
