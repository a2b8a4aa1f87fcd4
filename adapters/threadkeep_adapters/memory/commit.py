"""What a commit does to a space, whose lock the caller holds."""

from __future__ import annotations

from collections.abc import Sequence

from threadkeep.port import MISSING, Changes, Doc, Put, Receipt, Resource, Scope, check_thread, next_versions
from threadkeep_adapters.memory.layout import Log, Space


def commit_changes(space: Space, scope: Scope, changes: Changes) -> Receipt:
    """A commit: first all that may refuse it, then all that it writes. Raises Conflict."""
    resource_docs = space.docs.get(scope.resource_id, {})
    if isinstance(scope, Resource):
        versions = next_versions(resource_docs, changes.puts)
        _put(space.docs.setdefault(scope.resource_id, resource_docs), changes.puts, versions)
        return Receipt(MISSING, versions=versions)

    log = space.find(scope)
    check_thread(log.tail if log else MISSING, _known(log, changes), changes)
    versions = next_versions(log.docs if log else {}, changes.puts)
    resource_versions = next_versions(resource_docs, changes.resource_puts)

    if log is None:
        log = Log(changes.epoch, changes.at, changes.at)
        space.threads.setdefault(scope.resource_id, {})[scope.thread_id] = log
    log.active = max(log.active, changes.at)
    log.append(changes)
    _put(log.docs, changes.puts, versions)
    if changes.resource_puts:
        _put(space.docs.setdefault(scope.resource_id, resource_docs), changes.resource_puts, resource_versions)
    positions = [log.by_id[record.id].position for record in changes.append]
    return Receipt(log.tail, positions, versions, resource_versions)


def _known(log: Log | None, changes: Changes) -> dict[str, str]:
    """The digests of the records that are there and stay there."""
    if log is None:
        return {}
    found = (log.by_id[record.id] for record in changes.append if record.id in log.by_id)
    last = changes.drop_after
    return {record.id: record.digest for record in found if last is None or record.position <= last}


def _put(docs: dict[str, Doc], puts: Sequence[Put], versions: Sequence[int]) -> None:
    for put, version in zip(puts, versions, strict=True):
        docs[put.slot] = Doc(version, put.body)
