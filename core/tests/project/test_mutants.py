"""The mutators of `mutants/`: they change one thing at a time, and a mutant is judged in the place of the original."""

from __future__ import annotations

import ast
import asyncio
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import mutate
import postgresql_server
import pytest
import python_mutants
import redis
import redis_server
import token_mutants
from judge import ROOT, Judge
from mutant import Mutant
from places import Postgresql, Redis
from target import TARGETS

PYTHON = '''
"""Says "é" first, so that columns in bytes and in characters differ."""
LIMIT: int | None = 3

def page(rows, after=None):
    """Not changed: 1 < 2."""
    with lock:
        rows.sort(key=len, reverse=True)
    if "é" < after and rows:
        return rows[1 : LIMIT + 1]
    return select(rows).where(a == b, c).limit(5)
'''

STATEMENT = "FOUND = select(a, func.max(b)).outerjoin(c).order_by(a.desc())"

SQL = """
-- Not changed: a < b
SELECT x FROM t WHERE a = 1 AND b <= 'x < y' ORDER BY a DESC LIMIT many;
BEGIN
    DELETE FROM t WHERE done IS NOT NULL AND n = 2;
    IF COALESCE(x, 0) > y THEN
        INSERT INTO t (a, b) VALUES (c, d)
        ON CONFLICT (a) DO UPDATE SET a = excluded.a, b = excluded.b;
    END IF;
    SELECT a FROM t WHERE f(a) = ANY (b) FOR UPDATE;
END
"""

LUA = """
-- not changed: 1 < 2
local found = redis.call('GET', KEYS[1])
if found and #ARGV >= 2 then
  redis.call('SET', 'a < b', math.min(x + 1, y))
end
local some = redis.call('ZRANGEBYSCORE', log, '(' .. anchor, '+inf', 'LIMIT', 0, after)
"""


def changed(source: str, mutants: list[Mutant]) -> set[str]:
    """Each changed line as it is then, without blanks around."""
    before = source.splitlines()
    found = set()
    for mutant in mutants:
        after = mutant.apply(source).splitlines()
        if len(after) == len(before):
            (line,) = [new for old, new in zip(before, after, strict=True) if old != new]
            found.add(" ".join(line.split()))
    return found


def test_python_is_changed_one_thing_at_a_time() -> None:
    mutants = python_mutants.mutants(PYTHON)
    assert changed(PYTHON, mutants) >= {
        "LIMIT: int | None = (4)",
        "with __import__('contextlib').nullcontext():",
        "pass",
        "rows.sort(key=len, reverse=(False))",
        "(rows.sort(key=len))",
        "if ('é' <= after) and rows:",
        "if ('é' < after or rows):",
        "if (rows):",
        "if False:",
        "return (rows[1:])",
        "return rows[1 : (LIMIT - 1)]",
        "return None",
        "return (select(rows).where(a == b)).limit(5)",
        "return (select(rows)).limit(5)",
        "return (select(rows).where(a == b, c))",
    }
    assert changed(STATEMENT, python_mutants.mutants(STATEMENT)) >= {
        "FOUND = select(a, (func.min(b))).outerjoin(c).order_by(a.desc())",
        "FOUND = (select(func.max(b), a)).outerjoin(c).order_by(a.desc())",
        "FOUND = (select(a, func.max(b)).join(c)).order_by(a.desc())",
        "FOUND = select(a, func.max(b)).outerjoin(c).order_by((a.asc()))",
        "FOUND = (select(a, func.max(b)).outerjoin(c))",
    }
    for mutant in mutants:
        text = mutant.apply(PYTHON)
        assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(PYTHON))
        assert "int | None" in text
        assert '"""Not changed: 1 < 2."""' in text


def test_sql_is_changed_one_thing_at_a_time() -> None:
    mutants = token_mutants.mutants(SQL, token_mutants.SQL)
    assert changed(SQL, mutants) >= {
        "SELECT x FROM t WHERE a <> 1 AND b <= 'x < y' ORDER BY a DESC LIMIT many;",
        "SELECT x FROM t WHERE a = 1 OR b <= 'x < y' ORDER BY a DESC LIMIT many;",
        "SELECT x FROM t WHERE a = 1 AND b < 'x < y' ORDER BY a DESC LIMIT many;",
        "SELECT x FROM t WHERE a = 1 ORDER BY a DESC LIMIT many;",
        "SELECT x FROM t WHERE a = 1 AND b <= 'x < y' LIMIT many;",
        "SELECT x FROM t WHERE a = 1 AND b <= 'x < y' ORDER BY a ASC LIMIT many;",
        "SELECT x FROM t WHERE a = 1 AND b <= 'x < y' ORDER BY a DESC ;",
        "DELETE FROM t WHERE done IS NULL AND n = 2;",
        "DELETE FROM t WHERE done IS NOT NULL ;",
        "DELETE FROM t WHERE done IS NOT NULL AND n = 3;",
        "DELETE FROM t WHERE n = 2;",
        "DELETE FROM t ;",
        "NULL;",
        "IF TRUE THEN",
        "IF FALSE THEN",
        "IF COALESCE(x, 0) >= y THEN",
        "IF x > y THEN",
        "INSERT INTO t (b, a) VALUES (c, d)",
        "INSERT INTO t (a, b) VALUES (d, c)",
        "ON CONFLICT (a) DO NOTHING;",
        "ON CONFLICT (a) DO UPDATE SET a = excluded.a;",
        ";",
        "SELECT a FROM t WHERE f(a) = ANY (b) ;",
        "SELECT a FROM t WHERE f(a) = ANY (b) FOR SHARE;",
        "SELECT a FROM t WHERE f(a) = ALL (b) FOR UPDATE;",
        "SELECT a FROM t FOR UPDATE;",
    }
    texts = [mutant.apply(SQL) for mutant in mutants]
    assert all("-- Not changed: a < b" in text for text in texts)
    assert all("'x < y'" in text for text in texts if "b <" in text)


def test_lua_is_changed_one_thing_at_a_time() -> None:
    mutants = token_mutants.mutants(LUA, token_mutants.LUA)
    assert changed(LUA, mutants) >= {
        "local found = redis.call('GET', KEYS[2])",
        "if found or #ARGV >= 2 then",
        "if found then",
        "if found and #ARGV > 2 then",
        "redis.call('SET', 'a < b', math.max(x + 1, y))",
        "redis.call('SET', 'a < b', math.min(x - 1, y))",
        "if true then",
        "if false then",
        "local some = redis.call('ZRANGEBYSCORE', log, '' .. anchor, '+inf', 'LIMIT', 0, after)",
        "local some = redis.call('ZRANGEBYSCORE', log, '(' .. anchor, '-inf', 'LIMIT', 0, after)",
        "local some = redis.call('ZRANGEBYSCORE', log, '(' .. anchor, '+inf')",
        "local some = redis.call('ZRANGEBYSCORE', log, '(' .. anchor, '+inf', 'LIMIT', after, 0)",
        "",
    }
    texts = [mutant.apply(LUA) for mutant in mutants]
    assert all("-- not changed: 1 < 2" in text for text in texts)
    assert all("'a < b'" in text for text in texts if "SET" in text)


@pytest.mark.parametrize("name", TARGETS)
def test_mutants_are_drawn_by_a_seed_and_found_again_by_their_numbers(name: str) -> None:
    target = TARGETS[name]
    every = mutate.every(target)
    assert len(every) > (50 if name == "conditions" else 100)
    assert [number for number, _, _ in every] == list(range(len(every)))
    some = mutate.drawn(target, 20, 1)
    assert some == mutate.drawn(target, 20, 1) != mutate.drawn(target, 20, 2)
    assert len({number for number, _, _ in some}) == 20
    assert all(every[drawn[0]] == drawn for drawn in some)


@pytest.mark.parametrize("name", TARGETS)
def test_every_mutant_differs_from_its_file_and_from_all_others(name: str) -> None:
    target = TARGETS[name]
    texts: dict[tuple[Path, str], int] = {}
    for number, path, mutant in mutate.every(target):
        source = (ROOT / target.package / path).read_text(encoding="utf-8")
        text = mutant.apply(source)
        assert text != source
        assert texts.setdefault((path, text), number) == number


@pytest.mark.slow
def test_a_mutant_is_judged_in_the_place_of_the_original() -> None:
    """And of the original nothing is changed, afterwards as before."""
    target = TARGETS["memory"]
    number, file, mutant = next(
        one for one in mutate.every(target) if one[2].text == "pass" and one[1].name == "commit.py"
    )
    source = (ROOT / target.package / file).read_bytes()
    length = len(source.decode())
    unloaded = Mutant(0, 0, "import nothing.of.this.name\n", "broken import")
    exits = "\nimport os, threading\nthreading.Timer(1, os._exit, [3]).start()\n"
    with closing(Judge(target, "brief")) as judge:
        judge.measure()
        outcome = judge.judge(file, mutant, number)
        assert judge.judge(file, unloaded).verdict == "does not open"
        assert judge.judge(file, Mutant(length, length, exits, "ends")).verdict == "ends"
    assert (outcome.verdict, outcome.file, outcome.number) == ("broken", "memory/commit.py", number)
    assert outcome.rejected
    assert outcome.law
    assert outcome.check.startswith("test_")
    assert (ROOT / target.package / file).read_bytes() == source


def test_a_server_is_clean_for_every_mutant_whatever_the_last_one_does() -> None:
    """A script that never ends, and has written, is ended with the server; one that does not load says why."""
    places = Redis()
    with closing(redis_server.client("127.0.0.1", urlsplit(places.url(Path())).port or 0, socket_timeout=1)) as client:
        client.set("left", "behind")
        with pytest.raises(redis.RedisError):
            client.eval("redis.call('SET', 'a', 'b') while true do end", 0)
    places.clear()
    with closing(redis_server.client("127.0.0.1", urlsplit(places.url(Path())).port or 0)) as client:
        assert client.keys() == []
    assert places.refuses("return 1") == ""
    assert "near" in places.refuses("return return")


async def test_the_functions_of_a_mutant_are_ended_and_gone() -> None:
    places = await asyncio.to_thread(Postgresql)
    url = places.url(Path("mutant-A_1"))
    assert url.endswith("?schema=mutant_a_1")
    server = url.partition("?")[0]
    connection = await postgresql_server.connect(server)
    await connection.execute("CREATE SCHEMA mutant_a_1")
    forever = asyncio.create_task(connection.execute("DO 'BEGIN LOOP PERFORM pg_sleep(1); END LOOP; END'"))
    await asyncio.sleep(0)
    await asyncio.to_thread(places.clear)
    with pytest.raises(asyncpg.PostgresError):
        await forever
    again = await postgresql_server.connect(server)
    assert await again.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname = 'mutant_a_1'") == 0
    await again.close()
