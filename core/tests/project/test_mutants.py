"""The mutators of `mutants/`: they change one thing at a time, and a mutant is judged in the place of the original."""

from __future__ import annotations

import ast

import mutate
import pytest
import python_mutants
import token_mutants
from mutant import Mutant

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

SQL = """
-- Not changed: a < b
SELECT x FROM t WHERE a = 1 AND b <= 'x < y' ORDER BY a DESC LIMIT many;
BEGIN
    DELETE FROM t WHERE done IS NOT NULL AND n = 2;
END
"""

LUA = """
-- not changed: 1 < 2
local found = redis.call('GET', KEYS[1])
if found and #ARGV >= 2 then
  redis.call('SET', 'a < b', math.min(x + 1, y))
end
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
        "NULL;",
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
        "",
    }
    texts = [mutant.apply(LUA) for mutant in mutants]
    assert all("-- not changed: 1 < 2" in text for text in texts)
    assert all("'a < b'" in text for text in texts if "SET" in text)


@pytest.mark.parametrize("name", mutate.TARGETS)
def test_every_target_has_a_hundred_mutants_or_all_that_there_are(name: str) -> None:
    target = mutate.TARGETS[name]
    every = mutate.drawn(target, 10**6, 0)
    assert len(every) > (50 if name == "conditions" else 100)
    some = mutate.drawn(target, 20, 1)
    assert some == mutate.drawn(target, 20, 1) != mutate.drawn(target, 20, 2)
    assert len(set(some)) == 20


@pytest.mark.slow
def test_a_mutant_is_judged_in_the_place_of_the_original() -> None:
    judge = mutate.Judge(mutate.TARGETS["memory"], "brief")
    mutants = mutate.drawn(mutate.TARGETS["memory"], 10**6, 0)
    (file, mutant) = next(one for one in mutants if one[1].text == "pass" and one[0].name == "commit.py")
    assert judge.judge(file, None).verdict == "survived"
    outcome = judge.judge(file, mutant)
    assert (outcome.verdict, outcome.file) == ("killed", "memory/commit.py")
    assert outcome.law
    assert outcome.check.startswith("test_")
