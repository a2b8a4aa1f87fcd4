"""Models of providers, through pydantic-ai: all that it knows by name, and endpoints that speak OpenAI's protocol."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

from threadkeep.errors import Action, InvalidInput, ThreadkeepError
from threadkeep.messages.model import Message
from threadkeep.models.model import ModelError, ModelRequest, ReasoningDelta, TextDelta

if TYPE_CHECKING:
    from pydantic_ai.models import Model as PydanticModel
    from pydantic_ai.models import ModelRequestParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """What is known here of a provider, beyond what pydantic-ai knows."""

    title: str
    """Its name for people."""
    tells_its_end: bool = False
    """Whether its streams end with a reason, so that an answer without one has broken off."""
    span_name: str | None = None
    """Its name in spans, by OpenTelemetry's conventions; None where it is pydantic-ai's."""


PROVIDERS: Final[Mapping[str, Provider]] = {
    "anthropic": Provider(title="Anthropic", tells_its_end=True),
    "azure": Provider(title="Azure OpenAI", tells_its_end=True, span_name="azure.ai.openai"),
    "bedrock": Provider(title="Amazon Bedrock", tells_its_end=True, span_name="aws.bedrock"),
    "google": Provider(title="Google Gemini", tells_its_end=True, span_name="gcp.gemini"),
    "google-cloud": Provider(title="Google Vertex AI", tells_its_end=True, span_name="gcp.vertex_ai"),
    "groq": Provider(title="Groq", tells_its_end=True),
    "huggingface": Provider(title="Hugging Face", tells_its_end=True),
    "mistral": Provider(title="Mistral AI", tells_its_end=True, span_name="mistral_ai"),
    "moonshotai": Provider(title="Moonshot AI", span_name="moonshot_ai"),
    "openai": Provider(title="OpenAI", tells_its_end=True),
    "xai": Provider(title="xAI", span_name="x_ai"),
}
"""By pydantic-ai's names. All others may be used too: `provider_of` says what is taken for granted of them."""


def provider_of(name: str) -> Provider:
    """What is known of a provider, by pydantic-ai's name for it. Of one that is not known, nothing is expected."""
    return PROVIDERS.get(name, Provider(title=name))


_SHOWN: Final = 500
"""Characters of a provider's error text that are repeated."""

_EXTRA: Final = re.compile(r"(pydantic-ai-slim\[[^\]]+\])")
_PACKAGE: Final = re.compile(r"install the `([^`]+)` package")
"""Where the texts of pydantic-ai's ImportErrors name what is missing."""

_SECRETS: Final = re.compile(
    r"(?i)\b(?:bearer\s+|api[-_ ]?key['\"]?\s*[:=]\s*['\"]?)[^\s'\",;}]+"
    r"|\b(?:sk|pk|rk|gsk|xai|key)-[\w*.-]{8,}|\bAIza[\w-]{20,}"
)
"""What looks like a key in the texts of providers, some of which repeat the one that they refuse."""

_REDACTED: Final = "[key]"


class ProviderModel:
    """A model of pydantic-ai: by its name, by its name at an endpoint, or the object itself. See `as_model`.

    Connections are kept open from call to call, those of one event loop for that loop; `close` closes them.
    """

    def __init__(
        self,
        model: str | PydanticModel,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._settings: Any = dict(settings) if settings is not None else None
        self._build: Callable[[], PydanticModel] | None = None
        self._models: WeakKeyDictionary[asyncio.AbstractEventLoop, PydanticModel] = WeakKeyDictionary()
        if isinstance(model, str):
            self._build = partial(_model_of_name, model, base_url, api_key)
            self._model = self._build()
        elif base_url is not None:
            raise InvalidInput("base_url is for a model given by its name; a pydantic-ai model has its own")
        else:
            self._model = model
        self._first: PydanticModel | None = self._model
        self._secrets = tuple(_keys(self._model, api_key))

    @property
    def name(self) -> str:
        """The model's name at its provider."""
        return str(self._model.model_name)

    @property
    def provider(self) -> str:
        """The provider's name, as pydantic-ai has it."""
        return str(self._model.system)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[TextDelta | ReasoningDelta | Message, None]:
        """See `Model.stream`. Raises ModelError, whose text holds no key, and InvalidContent for an unreadable file."""
        failure: ModelError | None = None
        answers = self._answers(request)
        try:
            async with aclosing(answers):
                async for item in answers:
                    yield item
        except ThreadkeepError:
            raise
        except Exception as error:
            failure = failed(error, self._secrets)
            if not self._tells_a_key(error):
                raise failure from error
        if failure is not None:
            # Out of the handler, so that a traceback does not show the error that holds the key.
            raise failure

    async def close(self) -> None:
        """Close the connections of the running event loop. Safe to repeat; a later call opens new ones."""
        if self._build is None:
            model = self._model
        else:
            found = self._models.pop(asyncio.get_running_loop(), None)
            if found is None:
                return
            model = found
        async with model:
            pass

    def _here(self) -> PydanticModel:
        """The model with the connections of the running event loop: those of another cannot be used here."""
        if self._build is None:
            return self._model
        loop = asyncio.get_running_loop()
        if loop not in self._models:
            # The one that was made to check the name serves the first loop.
            self._models[loop] = self._build() if self._first is None else self._first
            self._first = None
        return self._models[loop]

    async def _answers(self, request: ModelRequest) -> AsyncGenerator[TextDelta | ReasoningDelta | Message, None]:
        from pydantic_ai.direct import model_request_stream
        from pydantic_ai.messages import PartDeltaEvent, PartStartEvent

        from threadkeep.formats.pydantic_ai import from_pydantic_ai, to_pydantic_ai

        model = self._here()
        parameters = _parameters(request)
        history = model.prepare_messages(to_pydantic_ai(request.messages), parameters)
        async with model_request_stream(
            model, history, model_settings=self._settings, model_request_parameters=parameters
        ) as stream:
            async for event in stream:
                if isinstance(event, PartStartEvent):
                    delta = _delta(event.part.part_kind, getattr(event.part, "content", None))
                elif isinstance(event, PartDeltaEvent):
                    delta = _delta(event.delta.part_delta_kind, getattr(event.delta, "content_delta", None))
                else:
                    continue
                if delta is not None:
                    yield delta
            response = stream.get()
        if response.state != "complete":
            raise ModelError(f"its answer broke off (state {response.state!r}); repeat the request")
        told = response.finish_reason or (response.provider_details or {}).get("finish_reason")
        if not told and provider_of(response.provider_name or "").tells_its_end:
            # A proxy that gives up halfway may end the stream as if that were all.
            raise ModelError("its answer broke off without a finish reason; repeat the request")
        yield from_pydantic_ai(response)

    def _tells_a_key(self, error: BaseException | None) -> bool:
        seen: set[int] = set()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            told = f"{error}{getattr(error, 'body', '')}"
            if _SECRETS.search(told) or any(secret in told for secret in self._secrets):
                return True
            error = error.__cause__ or error.__context__
        return False


def failed(error: Exception, secrets: tuple[str, ...] = ()) -> ModelError:
    """What a provider's error means: what went wrong, without any key, and what to do next."""
    from pydantic_ai import exceptions

    if isinstance(error, ModelError):
        return error
    told = _redacted(_told(error), secrets)
    for kinds, action, advice in (
        (exceptions.ModelAuthenticationError, Action.OPERATE, "check the provider's API key and what it may do"),
        (exceptions.ModelQuotaExceededError, Action.OPERATE, "the account's quota or credit is used up"),
        (exceptions.ModelNotFoundError, Action.FIX, "check the model's name and the endpoint's URL"),
        (exceptions.ModelContextWindowExceededError, Action.FIX, "show the model fewer messages"),
        (exceptions.ModelRequestRejectedError, Action.FIX, "the provider refuses this request as it is"),
        (exceptions.ModelRateLimitError, Action.REPEAT, "the provider's rate limit is reached; repeat later"),
        (exceptions.ModelConnectionError, Action.REPEAT, "the connection failed; repeat the request"),
        (exceptions.ModelAPIError, Action.REPEAT, "repeat the request"),
        (exceptions.UserError, Action.FIX, "change the model or its settings"),
    ):
        if isinstance(error, kinds):
            after = getattr(error, "retry_after", None)
            wait = f" after {after:g} seconds" if after is not None and action is Action.REPEAT else ""
            return ModelError(f"{told}; {advice}{wait}", action, after)
    return ModelError(f"{type(error).__name__}: {told}; repeat the request")


def _told(error: Exception) -> str:
    """The provider's own words, and the status that they came with."""
    body = getattr(error, "body", None)
    match body:
        # OpenAI's client gives the inner object, Anthropic's the whole.
        case {"message": told} | {"error": {"message": told}} if told:
            words = str(told)
        case _:
            words = str(body or error)
    status = getattr(error, "status_code", None)
    words = " ".join(words.split())[:_SHOWN]
    if status is not None:
        return f"HTTP {status}: {words}"
    return words or type(error).__name__


def _redacted(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, _REDACTED)
    return _SECRETS.sub(_REDACTED, text)


def _keys(model: PydanticModel, api_key: str | None) -> Iterator[str]:
    """The keys that are known here, so that no error repeats one, however it is written."""
    client = getattr(model, "client", None)
    for key in (api_key, getattr(client, "api_key", None), getattr(client, "auth_token", None)):
        if isinstance(key, str) and len(key) > 3:
            yield key


def _parameters(request: ModelRequest) -> ModelRequestParameters:
    from pydantic_ai.messages import InstructionPart
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.tools import ToolDefinition

    tools = [
        ToolDefinition(name=tool.name, parameters_json_schema=tool.parameters, description=tool.description or None)
        for tool in request.tools
    ]
    instructions = [InstructionPart(request.instructions)] if request.instructions else None
    return ModelRequestParameters(function_tools=tools, instruction_parts=instructions)


def _delta(kind: str, text: str | None) -> TextDelta | ReasoningDelta | None:
    if not isinstance(text, str) or not text:
        return None
    if kind == "text":
        return TextDelta(text)
    return ReasoningDelta(text) if kind == "thinking" else None


def _model_of_name(name: str, base_url: str | None, api_key: str | None) -> PydanticModel:
    try:
        from pydantic_ai.exceptions import UserError
        from pydantic_ai.models import infer_model
    except ImportError as error:
        raise InvalidInput(
            f"the model {name!r} needs pydantic-ai, which is not installed; "
            'install it with: pip install "threadkeep[models]"'
        ) from error
    try:
        return infer_model(name) if base_url is None else _at_endpoint(name, base_url, api_key)
    except ImportError as error:
        extra = _EXTRA.search(str(error))
        install = f'pip install "{extra.group(1)}"' if extra else "pip install its package"
        raise InvalidInput(
            f"the model {name!r} needs {_missing(error)}, which is not installed; install it with: {install}"
        ) from error
    except UserError as error:
        raise InvalidInput(f"the model {name!r} cannot be used: {error}") from error


def _missing(error: ImportError) -> str:
    named = _PACKAGE.search(str(error))
    return f"the package {named.group(1)!r}" if named else f"a package ({error})"


def _at_endpoint(name: str, base_url: str, api_key: str | None) -> PydanticModel:
    """A model at an endpoint that speaks OpenAI's protocol. Its name may hold colons, as Ollama's do."""
    if not re.match(r"https?://", base_url):
        raise InvalidInput(f"base_url is an endpoint such as 'http://localhost:11434/v1', not {base_url!r}")
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.profiles.openai import OpenAIModelProfile
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    protocol, _, rest = name.partition(":")
    provider = OpenAICompatibleProvider("openai-compatible", base_url=base_url, api_key=api_key)
    if protocol == "openai-responses" and rest:
        return OpenAIResponsesModel(rest, provider=provider)
    if protocol in ("openai", "openai-chat") and rest:
        name = rest
    # Without it, an answer whose connection a proxy closed halfway would pass for a whole one.
    profile = cast("Any", OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True))
    return OpenAIChatModel(name, provider=provider, profile=profile)
