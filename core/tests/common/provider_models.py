"""What the tests of providers' models share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from threadkeep import Memory
from threadkeep.models import ProviderModel, as_model

Work: TypeAlias = Callable[[Memory, ProviderModel], Awaitable[None]]


def with_model_named(name: str, work: Work, **options: Any) -> None:
    """Run a check with an empty Memory and a provider's model of this name, and close both."""

    async def main() -> None:
        model = as_model(name, **options)
        assert isinstance(model, ProviderModel)
        async with Memory("memory://") as memory:
            try:
                await work(memory, model)
            finally:
                await model.close()

    asyncio.run(main())


def add(a: int, b: int) -> int:
    """The sum."""
    return a + b
