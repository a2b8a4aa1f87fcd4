"""One commit's side of `compare.py`: turns of several clients on one store, a round for each line that comes in.

    python compare_worker.py URL CLIENTS TURNS LENGTH

It imports only what every commit has, and answers each line with the seconds that the round took.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time

from threadkeep import Memory, Message

LAST = 20
"""Messages that a turn loads."""
USER = "user"


def new_messages(client: int, count: int) -> list[Message]:
    """Messages of which every second one has a small metadata dict."""
    return [
        Message.user(
            f"Message {number} of client {client}: the order is late, and its number is {number * 7919}.",
            metadata={"channel": "web", "attempt": number} if number % 2 else {},
        )
        for number in range(count)
    ]


async def turns(memory: Memory, client: int, count: int, messages: list[Message]) -> None:
    """Load and append, as an agent's turn does, `count` times."""
    thread = memory.thread(f"{USER}{client}", "measured")
    for number in range(count):
        await thread.load(last=LAST)
        await thread.append(*messages[2 * number : 2 * number + 2])


async def main(url: str, clients: int, count: int, length: int) -> None:
    """Fill the threads, then run a round for each line of the input."""
    async with Memory(url) as memory:
        for client in range(clients):
            for _ in range(length // 100):
                await memory.thread(f"{USER}{client}", "measured").append(*new_messages(client, 100))
        print("ready", flush=True)
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            # Messages are made before the clock starts: their ids are fresh in each round.
            made = [new_messages(client, 2 * count) for client in range(clients)]
            gc.collect()
            started = time.perf_counter()
            await asyncio.gather(*[turns(memory, client, count, made[client]) for client in range(clients)])
            print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:5])))
