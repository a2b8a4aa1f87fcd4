"""The files of a package with a store: what `threadkeep new-store` writes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

DRAFT: Final = "port"
"""The port, to be filled in."""
EXAMPLES: Final = ("sqlite",)
"""Complete stores. Each, and DRAFT, is a module `acme_store.py` in the folder of its name, beside this file."""

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:[+.-][a-z0-9]+)*")
_ACME: Final = re.compile(r"acme_store|Acme|acme")


@dataclass(frozen=True, slots=True)
class Names:
    """What things are called in a package for one scheme."""

    scheme: str

    @classmethod
    def of(cls, name: str) -> Names:
        """The names that follow from the scheme. ValueError, which says what is allowed, for what is none."""
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} is no name for a store: it is a lower-case letter, then such letters and digits, "
                "as acme or acme2; one of + - . may stand between them, as in acme+tls"
            )
        return cls(name)

    @property
    def distribution(self) -> str:
        """What pip installs, and the folder."""
        return f"{self._words('-')}-store"

    @property
    def package(self) -> str:
        """What Python imports."""
        return f"{self._words('_')}_store"

    @property
    def prefix(self) -> str:
        """What names of classes begin with."""
        return self._words(" ").title().replace(" ", "")

    @property
    def url(self) -> str:
        """A URL to try the store with."""
        return f"{self.scheme}://judged.{self._words('-')}"

    def _words(self, between: str) -> str:
        return re.sub(r"[+.-]", between, self.scheme)


def files_of(names: Names, store: str) -> dict[str, str]:
    """Every file of the package, by its path in the package's folder, with the store DRAFT or one of EXAMPLES."""
    source = files(__package__).joinpath(store, "acme_store.py").read_text(encoding="utf-8")
    renamed = {"acme_store": names.package, "Acme": names.prefix, "acme": names.scheme}
    texts = {
        "pyproject.toml": _PYPROJECT,
        "README.md": _README[store == DRAFT],
        ".gitignore": _IGNORED,
        "tests/test_contract.py": _TEST,
    }
    values = {
        "scheme": names.scheme,
        "distribution": names.distribution,
        "package": names.package,
        "prefix": names.prefix,
        "url": names.url,
    }
    return {
        **{path: text.format(**values) for path, text in texts.items()},
        f"src/{names.package}/__init__.py": _ACME.sub(lambda found: renamed[found.group()], source),
        f"src/{names.package}/py.typed": "",
    }


_PYPROJECT: Final = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "{distribution}"
version = "0.1.0"
description = "A threadkeep store that answers to {scheme}://"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["threadkeep"]

[project.optional-dependencies]
test = ["threadkeep[contract]"]

[project.entry-points.threadkeep]
"{scheme}" = "{package}"

[tool.hatch.build.targets.wheel]
packages = ["src/{package}"]
"""

_TEST: Final = '''\
"""The store, judged by the contract of threadkeep."""

import tempfile

from threadkeep_contract import ContractSuite


class Test{prefix}(ContractSuite):
    # What the checks write stays there: this is a place for tests, and new for each run.
    url = f"{scheme}://{{tempfile.mkdtemp()}}/judged"
'''

_COMMANDS: Final = """\
    pip install -e ".[test]"
    threadkeep contract {url} --profile brief
    pytest -x

The first is needed once. The second prints a report, law by law; give it a place for tests, since what the checks write
stays there. `pytest` tries more, and is the proof. In a program: `Memory("{scheme}://...")`.
"""

_README: Final = (
    f"""\
# {{distribution}}

`{{scheme}}://PATH` keeps threadkeep's threads in one file: a complete store, in `src/{{package}}/__init__.py`. Put your
own database in its place, verb by verb, and keep the contract.

{_COMMANDS}""",
    f"""\
# {{distribution}}

`{{scheme}}://PLACE` keeps threadkeep's threads in ... (say where).

{_COMMANDS}
`src/{{package}}/__init__.py` has five verbs to fill in. Until then the report says which laws wait for
which verb. Begin with `commit` and `load`, and judge them by the law of order alone, `--law 3`. Then write `delete`,
`threads` and `resources`. What your database cannot keep, name in the store's `not_offered`, with the reason.

`docs/write-a-store.md` of threadkeep goes through a store that is complete. To have that one in a folder beside this:
`threadkeep new-store other --example sqlite`.
""",
)
"""Of an example, and of the draft."""

_IGNORED: Final = """\
__pycache__/
*.egg-info/
.hypothesis/
.pytest_cache/
.venv/
build/
dist/
judged.*
"""
