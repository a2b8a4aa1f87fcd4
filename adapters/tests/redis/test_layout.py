"""How things are written in Redis: order by bytes is order by time and id, and the scripts escape as core does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from threadkeep.port import MAX_TIME, MIN_TIME, Doc, Record, Stored, escape
from threadkeep_adapters.redis import registry, scripts
from threadkeep_adapters.redis.layout import moment, read_doc, read_record, time_of, write_body, write_record

TIMES = st.integers(MIN_TIME, MAX_TIME)
TEXTS = st.text(st.characters(codec="utf-8"))
IDS = st.text(st.characters(codec="utf-8"), min_size=1)
NUL_IDS = st.text(st.sampled_from("\0\1a\xff\U0010ffff"), min_size=1, max_size=5)


@given(TIMES, TIMES)
def test_moments_sort_as_times_do_and_come_back(one: int, other: int) -> None:
    assert (moment(one) < moment(other)) is (one < other)
    assert len(moment(one)) == 19
    assert moment(one).isdigit()
    assert time_of(moment(one).encode()) == one


@given(st.integers(1, 2**53), TIMES, IDS, TEXTS, TEXTS)
def test_records_come_back_letter_by_letter(position: int, at: int, record_id: str, digest: str, body: str) -> None:
    written = b"%d:" % position + write_record(at, Record(record_id, digest, body))
    assert read_record(written) == Stored(position, at, record_id, digest, body)


@given(st.integers(1, 2**53), st.none() | TEXTS)
def test_documents_come_back_letter_by_letter(version: int, body: str | None) -> None:
    assert read_doc(f"{version}{write_body(body)}".encode()) == Doc(version, body)


@given(NUL_IDS, NUL_IDS)
def test_entries_of_the_registry_sort_as_ids_do(one: str, other: str) -> None:
    first, second = registry.entry(one, "9-ff"), registry.entry(other, "1-00")
    assert registry.parts(first) == (one, "9-ff")
    if one != other:
        assert (first < second) is (one < other)
        low, high = (part[1:] for part in registry.entries_of(one))
        assert low <= first < high
        assert not low <= second < high
        assert (registry.after(one)[1:] < second) is (one < other)


def test_entries_are_spent_when_their_resource_was_emptied_or_their_time_is_over() -> None:
    entry = registry.entry("r", registry.token(1_000_000, "x"))
    assert registry.is_spent(entry, registry.token(1_000_000, "x"), 1_000_000)
    assert not registry.is_spent(entry, "", 1_000_000 + registry.TOKEN_MICROS)
    assert registry.is_spent(entry, "", 1_000_001 + registry.TOKEN_MICROS)


def test_the_scripts_escape_what_core_escapes() -> None:
    """Lists and erasures make keys of thread ids in the server."""
    table = "local escapes = {" + ", ".join(f"['{sign}'] = '{escape(sign)}'" for sign in "%:{}") + "}"
    assert {sign for sign in map(chr, range(0x250)) if escape(sign) != sign} == set("%:{}")
    for script in (scripts.THREADS, scripts.DELETE_RESOURCE):
        assert table in script.text.decode()
        assert "'[%%:{}]', escapes" in script.text.decode()
