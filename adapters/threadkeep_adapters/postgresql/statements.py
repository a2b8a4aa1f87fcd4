"""The texts of statements as the driver takes them, and the calls of the functions in functions.sql."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.schema import CreateIndex, CreateTable

from threadkeep_adapters.sql import tables
from threadkeep_adapters.sql.rows import compile_statement

FUNCTIONS: Final = ("threadkeep_resource_lock_1", "threadkeep_commit_1", "threadkeep_delete_1")

_DIALECT: Final = dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy has not typed it


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class Query:
    """A statement's text for the driver, and the names of its parameters in their order."""

    text: str
    names: Sequence[str]

    def values(self, given: Any) -> list[Any]:
        """The parameters in their order; text is an id, and goes as its bytes in UTF-8."""
        return [value.encode() if isinstance(value, str) else value for value in map(given.__getitem__, self.names)]


def query(statement: tables.Statement, schema: str) -> Query:
    """A shared statement, compiled for a schema."""
    compiled = compile_statement(statement, _DIALECT, schema)
    return Query(str(compiled), tuple(compiled.positiontup or ()))


def commit_call(schema: str) -> str:
    """The statement of a commit, whose parameters `commit.commit_arguments` gives."""
    given = ", ".join(f"${number}" for number in range(1, 18))
    return f"SELECT * FROM {quoted(schema)}.threadkeep_commit_1({given})"


def delete_call(schema: str) -> str:
    """The statement of a deletion. Takes the resource's id and the thread's, or NULL, as bytes."""
    return f"SELECT {quoted(schema)}.threadkeep_delete_1($1, $2)"


def ddl(schema: str, *, with_tables: bool) -> Sequence[str]:
    """The statements that make a schema, in their order."""
    functions = files("threadkeep_adapters.postgresql").joinpath("functions.sql").read_text(encoding="utf-8")
    functions = functions.replace("{schema}", quoted(schema)).replace("{seed}", str(seed(schema)))
    if not with_tables:
        return [functions]
    names: Any = {"dialect": _DIALECT, "schema_translate_map": {None: schema}, "render_schema_translate": True}
    statements = [f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}"]
    for table in tables.metadata.sorted_tables:
        statements.append(str(CreateTable(table).compile(**names)))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            statements.append(str(CreateIndex(index).compile(**names)))
    version = f"INSERT INTO {quoted(schema)}.{tables.schema.name} (version) VALUES ({tables.SCHEMA_VERSION})"
    return [*statements, functions, version]


def seed(schema: str) -> int:
    """A number of 63 bits that stands for a schema: advisory locks are shared by all programs of a database."""
    return int.from_bytes(hashlib.sha256(f"threadkeep {schema}".encode()).digest()[:8]) >> 1
