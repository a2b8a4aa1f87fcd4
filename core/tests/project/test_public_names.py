"""The public names: what users may import, and from where. All else is internal (docs/stability.md).

A name that is added here is promised; one that is taken away is a break, which docs/stability.md says when to make.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final

import pytest

from threadkeep import errors

ROOT: Final = Path(__file__).parents[3]

PUBLIC: Final = {
    "threadkeep": "Agent Memory Message ResourceHandle ThreadHandle ThreadkeepError open_store",
    "threadkeep.agent": (
        "Agent Approval ApprovalNeeded Committed DropOldTools Event Finished Forked MemoryOptions OnBusy OnDiverged "
        "Reason ReasoningDelta Redact register_processor Reply ResultsNeeded RunContext TextDelta TitleChanged "
        "TitleFailed ToolAnswered ToolCalled Waiting WorkingMemoryChanged"
    ),
    "threadkeep.blocking": ("Admin Agent Memory ResourceHandle ThreadHandle WorkingMemoryHandle"),
    "threadkeep.formats": (
        "approvals_from_ui from_openai from_pydantic_ai from_ui LEGACY_CALL_ID messages_from_openai messages_from_ui "
        "messages_to_openai messages_to_ui to_openai to_pydantic_ai to_ui"
    ),
    "threadkeep.handles": (
        "Access Admin HistoryReceipt INFO KEEP Memory MemoryScope Page read_info ResourceHandle ThreadHandle "
        "ThreadInfo ThreadSnapshot WORKING_MEMORY WorkingMemory WorkingMemoryHandle write_info"
    ),
    "threadkeep.messages": (
        "Approval batches DataPart decode dump encode estimate_tokens FilePart Ids INTERRUPTED Message pair_safe "
        "parse_message Part PartBase ReasoningPart SourcePart TextPart token_window ToolCallPart ToolResultPart "
        "UnknownPart"
    ),
    "threadkeep.models": (
        "as_model client_tool FunctionModel Model ModelError ModelLike ModelRequest ProviderModel ReasoningDelta "
        "ScriptedModel TextDelta TextOrMessage Tool tool ToolContext"
    ),
    "threadkeep.port": (
        "After canonical_json Changes check_id check_schema_version check_size check_thread Clause clock Costs "
        "DEFAULT_URL Doc escape flat_key from_micros Guard hash_tag hookimpl installed_schemes KIB Limits load_plugin "
        "MAX_COUNT MAX_DEPTH MAX_INT_DIGITS MAX_PAGE MAX_POSITION MAX_TIME Meter MIB MIN_TIME MISSING new_id new_place "
        "next_versions open_store Order proxied Put Receipt Record Refusal register registered replace_hosts "
        "replace_place Resource scan_backend scheme_of Scope shift_version SHORT_ID_BYTES Snapshot sorted_json Store "
        "store_exists Stored Tail Thread ThreadRow to_micros Translate URL_VARIABLE Versioned Window"
    ),
    "threadkeep_contract": "ContractSuite",
}
"""Room -> the names at its door."""

ERRORS: Final = (
    "Action AgentError CallNotPending Conflict Diverged InvalidContent InvalidCursor InvalidId InvalidInput "
    "InvalidURL LimitExceeded MessageConflict MessageNotFound MissingExtra ModelFailed NotFound OutcomeUnknown "
    "PluginError ProcessorFailed ReadOnly RunLost StoreClosed StoreDamaged StoreError StoreFull StoreNotWritable "
    "StoreTooNew StoreTooOld StoreUnavailable TailMoved ThreadBusy ThreadExists ThreadNotFound ThreadkeepError "
    "UnknownScheme VersionMoved"
)
"""What `threadkeep.errors` defines; all of it is public."""


@pytest.mark.parametrize("room", PUBLIC)
def test_a_room_lists_its_public_names_and_has_them(room: str) -> None:
    module = import_module(room)
    assert sorted(module.__all__) == sorted(PUBLIC[room].split())
    assert {name for name in module.__all__ if getattr(module, name, None) is None} == set()


def test_every_error_is_public() -> None:
    defined = [name for name, value in vars(errors).items() if getattr(value, "__module__", "") == errors.__name__]
    assert sorted(defined) == sorted(ERRORS.split())


@pytest.mark.parametrize("room", PUBLIC)
def test_the_page_on_stability_names_every_room(room: str) -> None:
    assert f"`{room}`" in (ROOT / "docs" / "stability.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "path",
    [
        *("threadkeep.store", "threadkeep.guard", "threadkeep.limits", "threadkeep.conditions", "threadkeep.keys"),
        *("threadkeep.hooks", "threadkeep.registry", "threadkeep.memory", "threadkeep.thread", "threadkeep.views"),
        *("threadkeep.working_memory", "threadkeep.cursors", "threadkeep.arguments", "threadkeep.reconcile"),
        *("threadkeep.windows", "threadkeep.model", "threadkeep.providers", "threadkeep.tools"),
    ],
)
def test_the_flat_paths_of_before_the_rooms_are_gone(path: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=path):
        import_module(path)
