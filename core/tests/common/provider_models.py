"""What the tests of providers' models share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from threadkeep.models import ProviderModel, as_model


@asynccontextmanager
async def model_named(name: str, **options: Any) -> AsyncIterator[ProviderModel]:
    """A provider's model of this name, closed afterwards."""
    model = as_model(name, **options)
    assert isinstance(model, ProviderModel)
    try:
        yield model
    finally:
        await model.close()


def add(a: int, b: int) -> int:
    """The sum."""
    return a + b
