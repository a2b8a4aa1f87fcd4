"""Requests of the MongoDB store that are no instants: others commit between any two parts of each (laws 3, 4, 5, 10).

A MongoDB may let writers in between the branches of one query, and evaluates them in an order of its own. The servers
for tests do not, so the parts of each query are asked one by one here, in both orders, and another process commits
before one of them. What is seen then has to be what was there at some moment, and what is written has to be right.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import pytest
import servers
from mongodb_server import MONGO_JAVA_SERVER, client

from threadkeep.errors import StoreUnavailable, ThreadkeepError
from threadkeep.port import Changes, Guard, Put, Record, Resource, Scope, Snapshot, Tail, Thread, Window, open_store
from threadkeep_adapters.mongo import commit, reading
from threadkeep_adapters.mongo.layout import Document, Found
from threadkeep_adapters.mongo.requests import Requests

pytestmark = pytest.mark.slow

ALL: Final = Window(before=9)
Act = Callable[[Guard], Awaitable[object]]


def _records(*names: str) -> tuple[Record, ...]:
    return tuple(Record(name, f"digest of {name}", f'"{name}"') for name in names)


def _scope(user: str) -> Thread:
    return Thread(user, "thread")


def _commit(name: str, at: int, *ids: str, thread: str = "thread", drop_after: int | None = None) -> Act:
    """A commit that shows in every document, too."""
    changes = Changes(at, f"epoch {at}", _records(*ids), (Put("d", f"{at}"),), (Put("r", f"{at}"),), drop_after)
    return lambda store: store.commit(Thread(name, thread), changes)


def _conditional(name: str, changes: Changes) -> Act:
    return lambda store: store.commit(_scope(name), changes)


def _delete(scope: Scope) -> Act:
    return lambda store: store.delete(scope)


OTHERS: Final[dict[str, Callable[[str], list[Act]]]] = {
    "append": lambda user: [_commit(user, 10, "new")],
    "truncate, append": lambda user: [_commit(user, 10, drop_after=1), _commit(user, 11, "x", "y", "z", "new")],
    "truncate twice": lambda user: [
        _commit(user, 10, "x", drop_after=1),
        _commit(user, 11, "y"),
        _commit(user, 12, "b", drop_after=2),
        _commit(user, 13, "z"),
    ],
    "delete, create": lambda user: [_delete(_scope(user)), _commit(user, 10, "b", "x", "y")],
    "erase, create": lambda user: [_delete(Resource(user)), _commit(user, 10, "x", "b")],
    "create, erase": lambda user: [_commit(user, 10, "b"), _commit(user, 11, thread="third"), _delete(Resource(user))],
    "other thread": lambda user: [_commit(user, 10, "a", thread="other"), _delete(Thread(user, "other"))],
}
"""What another process does meanwhile: some calls, one after another."""


class Yielding:
    """Stands before `Requests.find`: asks the branches of a query one by one, and lets others in before one of them."""

    def __init__(self, others: Awaitable[None], gap: int, *, backwards: bool) -> None:
        self._find = Requests.find
        self._others: Awaitable[None] | None = others
        self._gap = gap
        self._backwards = backwards
        self._within = False

    @property
    def came(self) -> bool:
        """Whether there was the gap to come in at."""
        return self._others is None

    def install(self, patch: pytest.MonkeyPatch) -> None:
        async def find(requests: Requests, query: Document, *args: Any, **options: Any) -> list[Document]:
            if self._within:
                return await self._find(requests, query, *args, **options)
            branches = query.get("$or", [query])
            found: dict[str, Document] = {}
            for branch in reversed(branches) if self._backwards else branches:
                await self._let_in()
                for each in await self._find(requests, branch, *args, **options):
                    # A server returns a document once, as the first branch that finds it did.
                    found.setdefault(each["_id"], each)
            return list(found.values())

        patch.setattr(Requests, "find", find)

    async def _let_in(self) -> None:
        self._gap -= 1
        if self._gap >= 0 or self._others is None:
            return
        others, self._others = self._others, None
        self._within = True
        await others
        self._within = False


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[str, Any]]:
    """The URL of an empty store, and its collection of commits by the bare driver."""
    server = servers.shared(MONGO_JAVA_SERVER)
    name = f"interleaving{secrets.token_hex(4)}"
    with client(f"mongodb://{server.host}:{server.port}") as bare:
        yield f"mongodb://{server.host}:{server.port}/{name}", bare[name]["threadkeep.commits00"]
        bare.drop_database(name)


async def _prepare(store: Guard, user: str) -> None:
    await store.commit(Thread(user, "other"), Changes(1, "other", _records("a")))
    await store.commit(_scope(user), Changes(2, "e", _records("a", "b"), (Put("d", "1"),), (Put("r", "1"),)))
    await store.commit(_scope(user), Changes(3, "e", _records("c", "d"), (Put("d", "2"),), (Put("r", "2"),)))


def _leave_behind(commits: Any, user: str) -> None:
    """What a writer leaves that died before its commit: records in the places, and with the ids, of true ones."""
    for record in list(commits.find({"p": {"$exists": True}, "w": {"$gt": 1}})):
        if record["z"] == "dead":
            continue
        name = secrets.token_hex(8)
        commits.insert_one({**record, "_id": name, "n": name, "z": "dead", "body": f'"left behind by {user}"'})


async def _in_turn(store: Guard, acts: list[Act]) -> None:
    for act in acts:
        await act(store)


async def _outcome(work: Awaitable[object]) -> object:
    try:
        return await work
    except ThreadkeepError as error:
        return type(error), str(error)


async def _each_gap(url: str, commits: Any, check: Callable[[Guard, Guard, str, int, bool], Awaitable[bool]]) -> None:
    """Run a check for every gap until there is none any more: in order, and backwards among what a dead writer left."""
    one, another = open_store(url), open_store(url)
    try:
        for backwards in (False, True):
            gap, came = 0, True
            while came:
                commits.delete_many({})
                user = f"user-{secrets.token_hex(4)}"
                await _prepare(another, user)
                if backwards:
                    _leave_behind(commits, user)
                came = await check(one, another, user, gap, backwards)
                gap += 1
            assert gap > 1
    finally:
        await one.close()
        await another.close()


WINDOWS: Final = {
    "the end": ("thread", ALL),
    "a message": ("thread", Window("b", 1, 9)),
    "a position": ("thread", Window(2, 1, 1)),
    "nobody": ("thread", Window("new", 3, 3)),
    "a missing thread": ("third", ALL),
}


@pytest.mark.parametrize("others", OTHERS)
async def test_a_load_sees_what_was_there_at_one_moment(
    place: tuple[str, Any], others: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, commits = place

    async def each_gap_of(name: str, window: Window) -> None:
        async def check(one: Guard, another: Guard, user: str, gap: int, backwards: bool) -> bool:
            scope = Thread(user, name)
            moments: list[Snapshot] = [await another.load(scope, window)]

            async def meanwhile() -> None:
                for act in OTHERS[others](user):
                    await act(another)
                    moments.append(await another.load(scope, window))

            work = meanwhile()
            yielding = Yielding(work, gap, backwards=backwards)
            with monkeypatch.context() as patch:
                yielding.install(patch)
                seen = await one.load(scope, window)
            assert seen in moments, (name, window, gap, backwards)
            if not yielding.came:
                work.close()
            return yielding.came

        await _each_gap(url, commits, check)

    for name, window in WINDOWS.values():
        await each_gap_of(name, window)


OLD: Final = Tail("e", 1)
CONFLICT: Final = (Record("b", "another digest", "1"),)

WRITES: Final[dict[str, Callable[[str], Act]]] = {
    "known and new": lambda user: _commit(user, 20, "b", "new"),
    "known": lambda user: _commit(user, 20, "c", "d"),
    "truncation": lambda user: _commit(user, 20, "new", drop_after=3),
    "creation": lambda user: _commit(user, 20, "b", thread="third"),
    "deletion": lambda user: _delete(_scope(user)),
    "erasure": lambda user: _delete(Resource(user)),
    "repetition, an old tail": lambda user: _conditional(user, Changes(20, "f", _records("b"), if_tail=OLD)),
    "repetition, an old tail, the newest seen": lambda user: _conditional(
        user, Changes(20, "f", _records("b"), if_tail=OLD, seen=Tail("e", 4))
    ),
    "conflict, an old tail": lambda user: _conditional(user, Changes(20, "f", CONFLICT, if_tail=OLD)),
    "conflict, a wrong version": lambda user: _conditional(user, Changes(20, "f", CONFLICT, (Put("d", "20", 7),))),
    "the tail and the resource's version after an append": lambda user: _conditional(
        user, Changes(20, "f", _records("z"), (), (Put("r", "20", 3),), if_tail=Tail("e", 5))
    ),
}


async def _everything(store: Guard, user: str) -> list[Snapshot]:
    return [await store.load(Thread(user, name), ALL) for name in ("thread", "other", "third")]


@pytest.mark.parametrize("others", OTHERS)
async def test_a_commit_is_done_as_if_at_one_moment(
    place: tuple[str, Any], others: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, commits = place

    async def orders(kind: str) -> list[tuple[object, list[Snapshot]]]:
        """The outcomes of a write before, between and after the others' calls, by the store without a server."""
        found = []
        user = "anybody"
        write = WRITES[kind](user)
        acts = OTHERS[others](user)
        for turn in range(len(acts) + 1):
            model = open_store(f"memory://{secrets.token_hex(8)}")
            await _prepare(model, user)
            await _in_turn(model, acts[:turn])
            outcome = await _outcome(write(model))
            await _in_turn(model, acts[turn:])
            found.append((outcome, await _everything(model, user)))
            await model.close()
        return found

    async def each_gap_of(kind: str) -> None:
        expected = await orders(kind)

        async def check(one: Guard, another: Guard, user: str, gap: int, backwards: bool) -> bool:
            work = _in_turn(another, OTHERS[others](user))
            write = WRITES[kind](user)
            yielding = Yielding(work, gap, backwards=backwards)
            with monkeypatch.context() as patch:
                yielding.install(patch)
                outcome = await _outcome(write(one))
            if yielding.came:
                assert (outcome, await _everything(another, user)) in expected, (kind, gap, backwards)
            else:
                work.close()
            return yielding.came

        await _each_gap(url, commits, check)

    for kind in WRITES:
        await each_gap_of(kind)


OVERTAKEN: Final[dict[str, tuple[str, Callable[[str], Act]]]] = {
    "commit": ("a commit was overtaken by others for 0.2 s", lambda user: _commit(user, 20, "new")),
    "resource": (
        "a commit was overtaken by others for 0.2 s",
        lambda user: lambda store: store.commit(Resource(user), Changes(20, puts=(Put("r", "20"),))),
    ),
    "deletion": ("a deletion was overtaken by commits for 0.2 s", lambda user: _delete(_scope(user))),
    "erasure": ("a deletion was overtaken by commits for 0.2 s", lambda user: _delete(Resource(user))),
    "load": (
        "a load was overtaken by commits 3 times; load again",
        lambda user: lambda store: store.load(_scope(user), Window("b", 1, 9)),
    ),
}
"""What others may overtake: what is said of it, and the call."""


@pytest.mark.parametrize("kind", OVERTAKEN)
async def test_who_is_overtaken_again_and_again_is_told_so_and_leaves_nothing(
    place: tuple[str, Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process commits after each look (laws 4, 5)."""
    url, commits = place
    said, call = OVERTAKEN[kind]
    user = f"user-{secrets.token_hex(4)}"
    look = Requests.look
    monkeypatch.setattr(commit, "OVERTAKEN_SECONDS", 0.2)
    monkeypatch.setattr(reading, "OVERTAKEN_LOADS", 3)

    one, another = open_store(url), open_store(url)
    await _prepare(another, user)
    came = 0
    within = False

    async def overtaken(requests: Requests, *args: Any, **options: Any) -> Found:
        nonlocal came, within
        found = await look(requests, *args, **options)
        if not within:
            within = True
            came += 1
            await another.commit(_scope(user), Changes(10 + came, "e", puts=(Put("d", f"{came}"),)))
            within = False
        return found

    try:
        with monkeypatch.context() as patch:
            patch.setattr(Requests, "look", overtaken)
            with pytest.raises(StoreUnavailable, match=f"^{re.escape(said)}$"):
                await call(user)(one)
        assert came > 1
        left = await another.load(_scope(user), ALL)
        assert [record.id for record in left.records] == ["a", "b", "c", "d"]
        assert (left.docs["d"].body, left.resource_docs["r"].body) == (f"{came}", "2")
        assert commits.count_documents({"body": '"new"'}) == 0
    finally:
        await one.close()
        await another.close()


REQUESTS: Final = ("find", "register", "is_registered", "unregister", "insert", "supersede")
"""The requests of a commit or an erasure before which another may come, each by its name."""

FIRST: Final[dict[str, tuple[Callable[[str], Act], Callable[[str], Act]]]] = {
    "erasure before a first commit": (lambda user: _commit(user, 20, "new"), lambda user: _delete(Resource(user))),
    "first commit before an erasure": (lambda user: _delete(Resource(user)), lambda user: _commit(user, 20, "new")),
}


@pytest.mark.parametrize("kind", FIRST)
@pytest.mark.parametrize("erased", [False, True], ids=["never used", "erased before"])
async def test_a_resource_with_a_thread_is_listed_whatever_erases_it(
    place: tuple[str, Any], kind: str, erased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An erasure and a resource's first commit meet before each of their requests (laws 5, 8, 10)."""
    url, _ = place
    call, other = FIRST[kind]
    one, another = open_store(url), open_store(url)

    async def met(gap: int) -> bool:
        """Whether there was a request before which the other came."""
        user = f"user-{secrets.token_hex(4)}"
        if erased:
            await _commit(user, 10, "old")(another)
            await _delete(Resource(user))(another)
        left = gap

        def letting_in(request: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
            async def requested(*args: Any, **options: Any) -> object:
                nonlocal left
                left -= 1
                if left == -1:
                    await other(user)(another)
                return await request(*args, **options)

            return requested

        with monkeypatch.context() as patch:
            for name in REQUESTS:
                patch.setattr(Requests, name, letting_in(getattr(Requests, name)))
            await call(user)(one)
        loaded = await another.load(_scope(user), ALL)
        there = [record.id for record in loaded.records]
        assert (user in await another.resources(limit=1_000)) == bool(there), (gap, there)
        await _delete(Resource(user))(another)
        assert user not in await another.resources(limit=1_000)
        return left < 0

    try:
        gap = 0
        while await met(gap):
            gap += 1
        assert gap > 2
    finally:
        await one.close()
        await another.close()
