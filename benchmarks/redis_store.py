"""threadkeep on Redis beside redis-py by hand, which does the same with one command or script for each operation.

    python benchmarks/redis_store.py URL [--messages FILE] [--rounds N] [--quantile Q] [--lengths 10,1000,10000]

An operation is what an agent's turn costs: load the newest 20 messages, append 2. All take turns in one run, on one
connection each. The numbers are medians; on a machine with other work, a smaller --quantile tells more. "By hand" has
no conditions but unique ids; "with conditions" also tests whether ids are known with other contents and whether the
tail is the one seen, and keeps the list of threads by activity, as every commit of threadkeep does. Keys begin with
threadkeep-bench, and are removed.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from timing import Way, interleaved, quantile, table
from turns import BY_HAND, CONDITIONS, LAST, OURS, STORE, USER, WARM, Turns, arguments, in_thousands, our_ways, row

from threadkeep import Memory
from threadkeep.port import Changes, Guard, Record, Resource, Thread, open_store

PREFIX: Final = "threadkeep-bench"
HAND: Final = f"{PREFIX}-by-hand"

APPEND: Final = """
-- KEYS: log, ids. ARGV: id, body, id, body ...
for number = 1, #ARGV, 2 do
  local place = redis.call('HLEN', KEYS[2]) + 1
  if redis.call('HSETNX', KEYS[2], ARGV[number], place) == 1 then
    redis.call('ZADD', KEYS[1], place, place .. ':' .. ARGV[number + 1])
  end
end
return redis.call('HLEN', KEYS[2])
"""

APPEND_IF: Final = """
-- KEYS: thread, log, ids, active. ARGV: thread id, moment, position seen, then id, digest, body, id, digest, body ...
local tail = tonumber(redis.call('HGET', KEYS[1], 'tail') or 0)
local asked = {}
for number = 4, #ARGV, 3 do
  asked[#asked + 1] = ARGV[number]
end
local known = redis.call('HMGET', KEYS[3], unpack(asked))
for number = 1, #asked do
  if known[number] then
    return {'known', asked[number]}
  end
end
if ARGV[3] ~= '' and tonumber(ARGV[3]) ~= tail then
  return {'moved', tail}
end
local to_log, to_ids = {}, {}
for number = 4, #ARGV, 3 do
  tail = tail + 1
  to_log[#to_log + 1] = tail
  to_log[#to_log + 1] = tail .. ':' .. ARGV[number] .. ':' .. ARGV[number + 1] .. ':' .. ARGV[number + 2]
  to_ids[#to_ids + 1] = ARGV[number]
  to_ids[#to_ids + 1] = tail .. ':' .. ARGV[number + 1]
end
redis.call('ZADD', KEYS[2], unpack(to_log))
redis.call('HSET', KEYS[3], unpack(to_ids))
redis.call('HSET', KEYS[1], 'tail', tail, 'active', ARGV[2])
redis.call('ZADD', KEYS[4], ARGV[2], ARGV[1])
return {'done', tail}
"""

LOAD: Final = """
-- KEYS: thread, log, documents of the resource.
return {redis.call('HGETALL', KEYS[1]), redis.call('ZRANGE', KEYS[2], -ARGV[1], -1), redis.call('HGETALL', KEYS[3])}
"""


class Hand:
    """What someone would write who needs no more than this."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self._append = client.register_script(APPEND)
        self._append_if = client.register_script(APPEND_IF)
        self._load = client.register_script(LOAD)

    async def last(self, name: str) -> Any:
        return await self.client.zrange(f"{HAND}:{name}:log", -LAST, -1)

    async def append(self, name: str, records: Sequence[Record]) -> None:
        given = [text for record in records for text in (record.id, record.body)]
        await self._append([f"{HAND}:{name}:log", f"{HAND}:{name}:ids"], given)

    async def load(self, name: str) -> tuple[int, Any]:
        keys = [f"{HAND}:{name}", f"{HAND}:{name}:log", f"{HAND}:docs"]
        fields, records, docs = await self._load(keys, [LAST])
        return int(dict(zip(fields[::2], fields[1::2], strict=True))[b"tail"]), (records, docs)

    async def append_if(self, name: str, records: Sequence[Record], seen: int | str) -> None:
        given = [text for record in records for text in record]
        keys = [f"{HAND}:{name}", f"{HAND}:{name}:log", f"{HAND}:{name}:ids", f"{HAND}:active"]
        outcome, _ = await self._append_if(keys, [name, 1, seen, *given])
        if outcome != b"done":
            raise ValueError(f"the thread moved: {outcome}")


async def fill(hand: Hand, store: Guard, turns: Turns, sizes: dict[str, int]) -> None:
    for thread_id, size in sizes.items():
        for count in in_thousands(size):
            records = turns.records(count)
            await hand.append(f"{thread_id}-plain", records)
            await hand.append_if(f"{thread_id}-if", records, "")
            await store.commit(Thread(USER, f"{thread_id}-store"), Changes(1, "e", records))


async def measure(
    hand: Hand, store: Guard, memory: Memory, turns: Turns, length: int, rounds: int, share: float
) -> dict[str, float]:
    """What a turn takes, in seconds, by who did it."""
    name = f"t{length}"
    records = [turns.records(2) for _ in range(rounds + WARM)]

    async def plain(number: int) -> None:
        await hand.last(f"{name}-plain")
        await hand.append(f"{name}-plain", records[number])

    async def conditions(number: int) -> None:
        tail, _ = await hand.load(f"{name}-if")
        await hand.append_if(f"{name}-if", records[number], tail)

    ways: dict[str, Way] = {BY_HAND: plain, CONDITIONS: conditions}
    ways |= await our_ways(store, memory, turns, length, rounds)
    return quantile(await interleaved(ways, rounds, WARM), share)


async def run(url: str, path: Path | None, lengths: Sequence[int], others: int, rounds: int, share: float) -> None:
    client = Redis.from_url(url)
    store = open_store(f"{url}?prefix={PREFIX}&connections=1&durability=none")
    memory = Memory(f"{url}?prefix={PREFIX}&connections=1&durability=none")
    try:
        server = await client.info()
        settings = [f"{name} {value}" for name, value in (await client.config_get("append*")).items()]
        versions = [f"{name} {version(name)}" for name in ("redis", "hiredis")]
        print(f"Python {sys.version.split()[0]}, {', '.join(versions)}; Redis {server['redis_version']}, {settings}")
        hand, turns = Hand(client), Turns(path)
        await fill(
            hand, store, turns, {f"t{length}": length for length in lengths} | {f"o{n}": 4 for n in range(others)}
        )
        rows = []
        ratios = []
        for length in lengths:
            found = await measure(hand, store, memory, turns, length, rounds, share)
            ratios.append([found[name] / found[CONDITIONS] for name in (STORE, OURS)])
            rows.append(row(length, found, CONDITIONS))
        print(
            table(
                f"Load {LAST} + append 2: µs (ratio to by hand, with conditions), quantile {share}",
                ["length", *found],
                rows,
            )
        )
        for name, values in zip((STORE, OURS), zip(*ratios, strict=True), strict=True):
            print(f"\n{name} / by hand, with conditions: {statistics.median(values):.2f}", flush=True)
    finally:
        await store.delete(Resource(USER))
        await store.close()
        await memory.close()
        async for key in client.scan_iter(f"{PREFIX}*", count=1000):
            await client.unlink(key)
        await client.aclose()


def main() -> None:
    form = "redis://[[USER]:PASSWORD@]HOST:PORT"
    given = arguments(__doc__, rounds=500, lengths="10,1000,10000", url=form).parse_args()
    asyncio.run(run(given.url, given.messages, given.lengths, given.others, given.rounds, given.quantile))


if __name__ == "__main__":
    main()
