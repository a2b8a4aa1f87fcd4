"""Reading: windows of the log, documents, heads, and how a reader sees that what it read fits together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from threadkeep.port import Doc, Scope, Snapshot, Stored, Window
from threadkeep_adapters.dynamodb import layout
from threadkeep_adapters.dynamodb.connections import Client, Deadline
from threadkeep_adapters.dynamodb.layout import HEAD, PACK, Cut, Head, Heads, Item, Kept, Pack, RecordPlace

MAX_PAGE: Final = 1000
"""Items that one query is asked for; a page ends at 1 MB in any case."""

MAX_POSITION: Final = 2**63 - 1


class Torn(Exception):
    """What was read is not of one moment; it is to be read again."""


@dataclass(slots=True)
class Part:
    """Packs on one side of an anchor."""

    packs: dict[int, Pack]
    is_all: bool
    """There is nothing more on that side."""


def read_heads(client: Client, deadline: Deadline, scope: Scope, *more: Item) -> tuple[Heads, list[Item | None]]:
    """The heads of a thread and its resource as they are at one moment, and other items at the same moment."""
    pk, resource_pk = layout.partitions(scope)
    if not pk:
        resource, *rest = client.get_at_once(deadline, [layout.key(resource_pk, HEAD), *more])
        return Heads(Head(), layout.read_resource_head(resource)), rest
    keys = [layout.key(resource_pk, HEAD), layout.key(pk, HEAD), *more]
    resource, thread, *rest = client.get_at_once(deadline, keys)
    return Heads(layout.read_head(thread), layout.read_resource_head(resource)), rest


def read_part(
    client: Client,
    deadline: Deadline,
    pk: bytes,
    anchor: int | None,
    count: int,
    *,
    forward: bool,
    is_live: Callable[[int], bool] | None = None,
) -> Part:
    """The packs that hold the `count` records next to an anchor: below it, or with `forward` from it on.

    Records of which `is_live` says that they were dropped do not count.
    """
    low, high = layout.log_sort(0), layout.log_sort(MAX_POSITION, 2**16 - 1)
    if anchor is not None:
        anchor = max(0, min(anchor, MAX_POSITION - 1))
        if forward:
            # The anchor may be any but the first of its pack.
            low = layout.log_sort(max(0, anchor - PACK + 1))
        else:
            high = layout.log_sort(max(0, anchor - 1), 2**16 - 1)
    packs: dict[int, Pack] = {}
    left: list[Item] = []
    found = 0
    for page in client.query(deadline, pk, low, high, forward=forward, limit=max(1, min(count, MAX_PAGE))):
        left += page
        whole = layout.read_packs(left)
        packs |= whole
        left = [item for item in left if layout.read_log_sort(item) not in whole]
        for pack in whole.values():
            beside = [one.position for one in pack.records if _is_on_side(one.position, anchor, forward=forward)]
            found += len(beside if is_live is None else [position for position in beside if is_live(position)])
        if found >= count:
            return Part(packs, False)
    return Part(packs, True)


def _is_on_side(position: int, anchor: int | None, *, forward: bool) -> bool:
    """Whether a position is on a side of an anchor; the anchor itself is on the side after it."""
    if anchor is None:
        return True
    return position >= anchor if forward else position < anchor


def select(head: Head, window: Window, below: Part | None, above: Part | None) -> list[Stored]:
    """The records of a window, whose anchor is the end or a live position. Raises Torn where packs of it are missing.

    With an anchor, `above` has been read wherever `below` has, so that the packs on both sides meet.
    """
    if below is None and above is None:
        return []
    anchor = _position(window)
    packs = {**(below.packs if below else {}), **(above.packs if above else {})}
    live: list[list[Stored]] = []
    for first in sorted(packs):
        pack = packs[first]
        if pack.epoch != head.epoch:
            raise Torn
        records = [record for record in pack.records if head.is_live(record.position)]
        if not records:
            continue
        if live and pack.before != live[-1][-1].position:
            raise Torn
        if not live:
            _check_beginning(pack, below, anchor)
        live.append(records)
    last = live[-1][-1].position if live else 0
    if (above is None or above.is_all) and last != head.position:
        raise Torn
    records = [record for group in live for record in group]
    before = [record for record in records if _is_on_side(record.position, anchor, forward=False)]
    after = records[len(before) :]
    if below is not None and not below.is_all and len(before) < window.before:
        raise Torn
    if above is not None and not above.is_all and len(after) < window.after:
        raise Torn
    return [*before[max(0, len(before) - window.before) :], *after[: window.after]]


def _check_beginning(pack: Pack, below: Part | None, anchor: int | None) -> None:
    """Whether records may be missing before the first pack: at the beginning of the log, or next to the anchor."""
    if below is not None and below.is_all and pack.before:
        raise Torn
    if below is None and anchor is not None and pack.before >= max(anchor, 1):
        raise Torn


def read_cut(client: Client, deadline: Deadline, pk: bytes, head: Head, drop_after: int) -> Cut:
    """Where a truncation ends that drops something. Raises Torn where the head is no longer the head."""
    if drop_after < 1:
        return Cut(0, None)
    part = read_part(client, deadline, pk, drop_after + 1, 1, forward=False, is_live=head.is_live)
    for first in sorted(part.packs, reverse=True):
        pack = part.packs[first]
        if pack.epoch != head.epoch:
            raise Torn
        records = [record for record in pack.records if head.is_live(record.position)]
        kept = [record.position for record in records if record.position <= drop_after]
        if kept:
            return Cut(kept[-1], Pack(pack.before, pack.epoch, records))
    return Cut(0, None)


def read_docs(
    client: Client, deadline: Deadline, asked: Iterable[tuple[bytes, Mapping[str, Kept]]]
) -> list[dict[str, Doc]]:
    """Documents by partition, each with those kept in the head. Raises Torn where a head is behind an item."""
    given = list(asked)
    elsewhere = {
        (pk, layout.doc_sort(slot)): layout.key(pk, layout.doc_sort(slot))
        for pk, docs in given
        for slot, kept in docs.items()
        if kept.is_elsewhere
    }
    items: dict[tuple[bytes, bytes], Item] = {}
    if elsewhere:
        for item in client.get_each(deadline, list(elsewhere.values())):
            items[bytes(item["pk"]["B"]), bytes(item["sk"]["B"])] = item
    return [{slot: _doc(pk, slot, kept, items) for slot, kept in docs.items()} for pk, docs in given]


def _doc(pk: bytes, slot: str, kept: Kept, items: Mapping[tuple[bytes, bytes], Item]) -> Doc:
    if not kept.is_elsewhere:
        return Doc(kept.version, kept.body)
    item = items.get((pk, layout.doc_sort(slot)))
    if item is None or int(item["v"]["N"]) != kept.version:
        raise Torn
    return Doc(kept.version, bytes(item["b"]["B"]).decode())


def find_ids(client: Client, deadline: Deadline, pk: bytes, ids: Sequence[str]) -> dict[str, RecordPlace]:
    """Where records of these ids are, or were."""
    hashed = {layout.id_sort(layout.id_hash(one)): one for one in ids}
    found = client.get_each(deadline, [layout.key(pk, sort) for sort in hashed])
    return {hashed[bytes(item["sk"]["B"])]: layout.read_id(item) for item in found}


def _position(window: Window) -> int | None:
    """The anchor of a window in which an id has been replaced by its position."""
    return None if window.anchor is None else int(window.anchor)


def read_window(
    client: Client, deadline: Deadline, pk: bytes, head: Head, window: Window, ahead: Part | None
) -> list[Stored]:
    """The records of a window whose anchor is the end or a position. Raises Torn. `ahead` is what was read before."""
    anchor = _position(window)
    if anchor is not None and anchor > head.position:
        window = Window(before=window.before)
    elif anchor is not None and anchor < 1:
        window = Window(1, after=window.after)
    anchor = _position(window)
    if ahead is not None:
        return select(head, window, ahead, None)
    below = above = None
    if window.before:
        below = read_part(client, deadline, pk, anchor, window.before, forward=False, is_live=head.is_live)
    if anchor is not None and (window.before or window.after):
        # At least one from the anchor on, where the packs on both sides meet.
        count = max(1, window.after)
        above = read_part(client, deadline, pk, anchor, count, forward=True, is_live=head.is_live)
    return select(head, window, below, above)


def read_snapshot(
    client: Client, deadline: Deadline, scope: Scope, heads: Heads, window: Window, ahead: Part | None
) -> Snapshot:
    """What `Store.load` answers on heads that were read, with a window as in `read_window`. Raises Torn."""
    head, resource = heads.thread, heads.resource
    if resource.is_gone:
        return Snapshot()
    pk, resource_pk = layout.partitions(scope)
    records = read_window(client, deadline, pk, head, window, ahead) if head.epoch else []
    docs, resource_docs = read_docs(client, deadline, [(pk, head.docs), (resource_pk, resource.docs)])
    if not head.epoch:
        return Snapshot(resource_docs=resource_docs)
    return Snapshot(head.tail, head.created, head.active, records, docs, resource_docs)


def load(client: Client, deadline: Deadline, scope: Scope, window: Window) -> tuple[Heads, Snapshot]:
    """See `Store.load`; with the heads that it was read on."""
    pk, _ = layout.partitions(scope)
    while True:
        try:
            if not pk or not isinstance(window.anchor, str):
                heads, _ = read_heads(client, deadline, scope)
                return heads, read_snapshot(client, deadline, scope, heads, window, None)
            heads, (item,) = read_heads(client, deadline, scope, layout.id_key(pk, window.anchor))
            place = heads.thread.place_of(window.anchor, None if item is None else layout.read_id(item))
            found = Window() if place is None else window._replace(anchor=place.position)
            return heads, read_snapshot(client, deadline, scope, heads, found, None)
        except Torn:
            deadline.give_way("the thread changes faster than it can be read")
