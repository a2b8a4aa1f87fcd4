"""Which model is meant: by its name, as an object, or as a function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

from threadkeep.errors import InvalidInput
from threadkeep.models.model import FunctionModel, Model, ModelFunction

if TYPE_CHECKING:
    from pydantic_ai.models import Model as PydanticModel

ProviderLike: TypeAlias = "str | PydanticModel"
"""A provider's model: by its name, or as an object of pydantic-ai."""

ModelLike: TypeAlias = "Model | ProviderLike | ModelFunction"
"""What `as_model` takes."""


def as_model(
    model: ModelLike,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Model:
    """The model that is meant: by its name, as a pydantic-ai model, as a function, or as a Model, which stays as it is.

    A name is one that pydantic-ai knows, such as "openai:gpt-4o" or "anthropic:claude-sonnet-5"; with `base_url`, it
    is the name of a model at that endpoint, which has to speak OpenAI's protocol (Chat Completions, or Responses for a
    name that begins with "openai-responses:"). `api_key` is for the endpoint; by name alone, the provider's own
    environment variable holds it. `settings` are pydantic-ai's model settings, such as {"temperature": 0}.

    Names and pydantic-ai models need the extra `models`, and each provider its own package. Raises InvalidInput for
    what is none of these, for an unknown name, and naming the package or key that is missing.
    """
    if base_url is None and api_key is not None:
        raise InvalidInput("api_key is for the endpoint of base_url; give that too, or set the provider's variable")
    if isinstance(model, str) or is_pydantic_model(model):
        from threadkeep.models.providers import ProviderModel

        return ProviderModel(model, base_url=base_url, api_key=api_key, settings=settings)
    if base_url is not None or settings is not None:
        raise InvalidInput(f"base_url and settings are for a model given by its name, not for {model!r}")
    if isinstance(model, Model) and not isinstance(model, type):
        return model
    if callable(model) and not isinstance(model, type):
        return FunctionModel(model)
    raise InvalidInput(
        "a model is a name such as 'openai:gpt-4o', a pydantic-ai model, a function of the request, or an object "
        f"with a method stream(request), not {model!r}"
    )


def is_pydantic_model(model: object) -> TypeGuard[PydanticModel]:
    """Whether it is a model of pydantic-ai, which need not be loaded to find out."""
    return any(
        kind.__module__.startswith("pydantic_ai.models") and kind.__name__ == "Model" for kind in type(model).__mro__
    )
