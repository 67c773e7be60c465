"""One model of one provider: a question with tools in, an answer with tool calls out.

The one file that knows pydantic-ai. Keys come from the environment and go nowhere but into the
requests: `Client.clean` takes them out of every text that comes back.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from epitaxy.errors import BadEnvironment, BadInput, UnknownName
from epitaxy.proposer import Spending, Tool
from epitaxy.record import printable

TABLE = Path(__file__).parent / "providers.toml"
TRIES = 6
"""Requests for one answer, where the failures are of a kind that passes."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
PATIENCE_S = 600.0
"""Silence on the line, or a pause asked for, that is too long."""
MOST_TOKENS = 16_384
"""Tokens of one answer: room for a kernel's files and some thought."""
Message = dict[str, Any]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Call:
    """A tool call as the model wrote it; `arguments` is JSON text, if the model kept to it."""

    id: str
    tool: str
    arguments: str


NOTHING = Spending()


@dataclass(frozen=True)
class Answer:
    """What a model said. `finish` is "stop", "tool_call", "length" (cut at the limit of tokens),
    "content_filter" (it refused), or "too long" (the conversation no longer fits, no message)."""

    finish: str
    text: str = ""
    calls: tuple[Call, ...] = ()
    message: Message | None = None
    spending: Spending = NOTHING
    tokens: int = 0
    """Of the whole conversation, this answer included."""


class Unanswered(Exception):
    """No answer can be had; the text is one line, without keys."""


class _Broken(Exception):
    """A stream that ended before its end."""


@cache
def providers() -> Mapping[str, Mapping[str, Any]]:
    """The table of providers by name."""
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


class Client:
    """Asks `model` ("provider/name"). Raises BadInput, UnknownName, BadEnvironment."""

    def __init__(self, model: str) -> None:
        provider, slash, self.name = model.partition("/")
        if not (provider and slash and self.name):
            raise BadInput(
                f"model {model!r} is not understood", "name it provider/model: local/my-model"
            )
        if provider not in providers():
            raise UnknownName.of("model provider", provider, providers())
        self.model, self.provider = model, provider
        self._facts = providers()[provider]
        self._key = os.environ.get(self._facts["key"], "").strip()
        self._url = os.environ.get(self._facts["url_variable"], "") or self._facts.get("url", "")
        self._check()
        self._sdk, self._model = self._open()

    def _check(self) -> None:
        key, url = self._facts["key"], self._facts["url_variable"]
        if not self._key and not self._facts.get("keyless"):
            raise BadEnvironment(f"there is no key for {self.provider}", f"set {key}")
        if not self._url and self._facts.get("url_needed"):
            raise BadEnvironment(f"where is {self.model}?", f"set {url}=http://host:port/v1")

    def _open(self) -> tuple[Any, Any]:
        try:
            if self._facts["speaks"] == "anthropic":
                return self._anthropic()
            return self._openai()
        except ImportError:
            raise BadEnvironment(
                "the client of language models is not installed", "pip install 'epitaxy[agent]'"
            ) from None

    def _anthropic(self) -> tuple[Any, Any]:
        from anthropic import AsyncAnthropic
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        sdk = AsyncAnthropic(
            api_key=self._key, base_url=self._url or None, max_retries=0, timeout=PATIENCE_S
        )
        return sdk, AnthropicModel(self.name, provider=AnthropicProvider(anthropic_client=sdk))

    def _openai(self) -> tuple[Any, Any]:
        from openai import AsyncOpenAI
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider

        sdk = AsyncOpenAI(
            api_key=self._key or "none", base_url=self._url or None, max_retries=0,
            timeout=PATIENCE_S,
        )  # fmt: skip
        return sdk, OpenAIChatModel(self.name, provider=OpenAIProvider(openai_client=sdk))

    def clean(self, text: str) -> str:
        """`text` without any provider's key."""
        held = (os.environ.get(facts["key"], "").strip() for facts in providers().values())
        for key in {self._key, *held} - {""}:
            text = text.replace(key, "[key]")
        return text

    # -- messages -------------------------------------------------------------------------------

    def opening(self, system: str, text: str) -> Message:
        """A conversation's first message."""
        from pydantic_ai.messages import ModelRequest, UserPromptPart

        return _plain(ModelRequest(parts=[UserPromptPart(text)], instructions=system))

    def reply(self, system: str, results: Sequence[tuple[Call, str]], text: str = "") -> Message:
        """The message after a model's: the results of its calls, and what else there is to say."""
        from pydantic_ai.messages import ModelRequest, ToolReturnPart, UserPromptPart

        parts: list[Any] = [
            ToolReturnPart(tool_name=call.tool, content=said, tool_call_id=call.id)
            for call, said in results
        ]
        parts += [UserPromptPart(text)] if text else []
        return _plain(ModelRequest(parts=parts, instructions=system))

    def read(self, message: Message) -> Answer:
        """A recorded message of the model's as the answer that it was. Raises BadInput."""
        return self._answer(_rich([message])[0])

    def check(self, messages: Sequence[Message]) -> None:
        """Raise BadInput when recorded messages cannot be sent again."""
        _rich(messages)

    # -- asking ---------------------------------------------------------------------------------

    async def ask(self, messages: Sequence[Message], tools: Sequence[Tool], say: Say) -> Answer:
        """The model's answer to a conversation. What passes (limits of rate, overload, a broken
        line) is tried again, after the pause that the server asks for. Raises Unanswered."""
        from pydantic_ai import exceptions as e

        passing = (
            e.ModelRateLimitError, e.ModelUnavailableError, e.ModelServerError,
            e.ModelConnectionError, e.ModelRequestTimeout, _Broken,
        )  # fmt: skip
        for attempt in range(TRIES):
            try:
                return await self._once(messages, tools)
            except e.ModelContextWindowExceededError:
                return Answer(finish="too long")
            except passing as error:
                pause_s = _pause_s(attempt, getattr(error, "retry_after", None))
                said = self._said(error)
                if attempt + 1 == TRIES or pause_s > PATIENCE_S:
                    raise Unanswered(f"{self.provider} does not answer: {said}") from None
                say(f"{self.provider}: {said}; again in {pause_s:.0f} s")
                await asyncio.sleep(pause_s)
            except (e.AgentRunError, e.UserError) as error:
                raise Unanswered(f"{self.provider} refuses: {self._said(error)}") from None
        raise AssertionError("not reached")

    async def _once(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Answer:
        from pydantic_ai.direct import model_request_stream
        from pydantic_ai.models import ModelRequestParameters
        from pydantic_ai.tools import ToolDefinition

        offered = [
            ToolDefinition(
                name=t.name,
                description=t.about,
                parameters_json_schema=dict(t.schema),
                strict=False,
            )
            for t in tools
        ]
        # Streamed, so that a long answer cannot run into a limit on silence.
        async with model_request_stream(
            self._model,
            _rich(messages),
            model_settings={"cache": True, "max_tokens": MOST_TOKENS},
            model_request_parameters=ModelRequestParameters(function_tools=offered),
        ) as stream:
            async for _ in stream:
                pass
            response = stream.get()
        refused = response.finish_reason == "content_filter"
        if not refused and not (response.provider_details or {}).get("finish_reason"):
            raise _Broken("the answer broke off")
        return self._answer(response)

    def _answer(self, response: Any) -> Answer:
        from pydantic_ai.messages import ToolCallPart

        calls = tuple(
            Call(
                id=part.tool_call_id, tool=part.tool_name,
                arguments=self._arguments(part.args),
            )
            for part in response.parts if isinstance(part, ToolCallPart)
        )  # fmt: skip
        usage = response.usage
        return Answer(
            finish=response.finish_reason or "stop",
            text=self.clean(printable(response.text or "")),
            calls=calls,
            message=json.loads(self.clean(json.dumps(_plain(response)))),
            spending=self._spending(response),
            tokens=usage.input_tokens + usage.output_tokens,
        )

    def _arguments(self, given: Any) -> str:
        """A call's arguments as JSON text, or as the text that they are; without keys."""
        try:
            read = json.loads(given) if isinstance(given, str) else given or {}
        except (ValueError, RecursionError):
            return self.clean(str(given))
        return self.clean(json.dumps(read, ensure_ascii=False))

    def _spending(self, response: Any) -> Spending:
        usage = response.usage
        price = None
        if self._facts.get("priced"):
            try:
                price = float(response.cost().total_price)
            except (LookupError, ValueError):
                price = None  # not in the table of prices, or no usage told
        return Spending(
            requests=1,
            input_tokens=usage.input_tokens,
            cached_tokens=usage.cache_read_tokens,
            output_tokens=usage.output_tokens,
            usd=price or 0.0,
            unpriced=int(price is None),
        )

    def _said(self, error: Exception) -> str:
        """An error in one line, without keys."""
        body = getattr(error, "body", None)
        inner = body.get("error", body) if isinstance(body, Mapping) else None
        told = inner.get("message") if isinstance(inner, Mapping) else None
        status = getattr(error, "status_code", None)
        text = f"{status} {told or ''}".strip() if status else str(error)
        return self.clean(" ".join(printable(text).split()))[:200]

    async def close(self) -> None:
        """Drop its connections."""
        await self._sdk.close()


def _pause_s(attempt: int, asked_s: float | None) -> float:
    """Seconds before the next try: what the server asks for, else twice as long each time."""
    if asked_s is not None:
        return asked_s
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**attempt) * random.uniform(0.5, 1.0)


def _plain(message: Any) -> Message:
    from pydantic_ai.messages import ModelMessagesTypeAdapter

    found: Message = ModelMessagesTypeAdapter.dump_python([message], mode="json")[0]
    return found


def _rich(messages: Sequence[Message]) -> Any:
    from pydantic import ValidationError
    from pydantic_ai.messages import ModelMessagesTypeAdapter

    try:
        return ModelMessagesTypeAdapter.validate_python(list(messages))
    except ValidationError as error:
        raise BadInput(
            f"a recorded conversation cannot be read: {error.error_count()} faults",
            "it was written by another version of pydantic-ai; a new one is begun",
        ) from None
