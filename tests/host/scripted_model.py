"""A server that speaks Anthropic's Messages and OpenAI's chat completions, as it is told.

`Server(script)` answers on loopback: `script` is a list of steps, taken in order, or a function
from what was asked (`Asked`) to a step. What is asked is kept in `asked`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PIECE = 40
"""Characters of text or arguments in one event of a stream."""


@dataclass
class Step:
    """One answer: text and tool calls, or an HTTP error, or a stream that breaks.

    `calls` are (name, arguments): a mapping, or text sent as it is. `cut` ends the stream after so
    many events; `wait_s` is slept before the first byte.
    """

    text: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    refuse: bool = False
    cut: int | None = None
    wait_s: float = 0.0
    tokens: tuple[int, int, int] = (200, 1000, 50)
    """Tokens read anew, read from the cache, and written."""
    says: str = ""
    """What an error's body says."""


def call(name: str, **arguments: Any) -> Step:
    """A step that calls one tool."""
    return Step(calls=[(name, arguments)])


@dataclass
class Asked:
    """One request: `results` are the texts of the tool results in its last message."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def tools(self) -> dict[str, Any]:
        """The tools offered: name to description."""
        found = [t.get("function", t) for t in self.body.get("tools", [])]
        return {t["name"]: t.get("description", "") for t in found}

    @property
    def system(self) -> str:
        """The system prompt."""
        if "messages" in self.path:
            system = self.body.get("system", "")
            return system if isinstance(system, str) else "".join(b["text"] for b in system)
        return "".join(
            _text(m["content"])
            for m in self.body["messages"]
            if m["role"] in ("system", "developer")
        )

    @property
    def first(self) -> str:
        """The first message of the user."""
        return next(_text(m["content"]) for m in self.body["messages"] if m["role"] == "user")

    @property
    def results(self) -> list[str]:
        """The tool results that came last, or the user's last words."""
        found: list[str] = []
        for message in reversed(self.body["messages"]):
            if message["role"] == "assistant":
                break
            content = message["content"]
            blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
            texts = [_text(b.get("content", b.get("text", ""))) for b in blocks]
            found = texts + found
        return found


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(block.get("text", "") for block in content)


class Server:
    """Use as a context manager; `url` is its address without a path."""

    def __init__(self, script: list[Step] | Callable[[Asked], Step]) -> None:
        self.asked: list[Asked] = []
        self._script = script
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Nothing on stderr."""

            def do_POST(self) -> None:
                """Answer one request."""
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                headers = {k.lower(): v for k, v in self.headers.items()}
                asked = Asked(self.path, headers, body)
                try:
                    _answer(self, asked, outer.step(asked))
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def step(self, asked: Asked) -> Step:
        """What to answer; a script at its end says so, and calls nothing."""
        with self._lock:
            self.asked.append(asked)
            if callable(self._script):
                return self._script(asked)
            return self._script.pop(0) if self._script else Step(text="I have nothing more to try.")

    def __enter__(self) -> Server:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


def _answer(handler: Any, asked: Asked, step: Step) -> None:
    if step.wait_s:
        time.sleep(step.wait_s)
    anthropic = "messages" in asked.path
    if step.status != 200:
        _json(handler, _error(anthropic, step), step.status, step.headers)
    elif not asked.body.get("stream"):
        whole = _message(asked, step) if anthropic else _completion(asked, step)
        _json(handler, whole, 200, step.headers)
    else:
        events = list(_message_events(asked, step) if anthropic else _chunks(asked, step))
        _stream(handler, events if step.cut is None else events[: step.cut])


def _error(anthropic: bool, step: Step) -> dict[str, Any]:
    kinds = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
    kind = kinds.get(step.status, "api_error")
    says = {"type": kind, "message": step.says or kind.replace("_", " ")}
    return {"type": "error", "error": says} if anthropic else {"error": says | {"code": kind}}


def _json(handler: Any, document: Any, status: int, headers: dict[str, str]) -> None:
    body = json.dumps(document).encode()
    handler.send_response(status)
    for name, value in {**headers, "content-type": "application/json"}.items():
        handler.send_header(name, value)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _stream(handler: Any, events: list[tuple[str, Any]]) -> None:
    handler.send_response(200)
    handler.send_header("content-type", "text/event-stream")
    handler.send_header("connection", "close")
    handler.end_headers()
    for name, data in events:
        head = f"event: {name}\n" if name else ""
        text = data if isinstance(data, str) else json.dumps(data)
        handler.wfile.write(f"{head}data: {text}\n\n".encode())
        handler.wfile.flush()
    handler.close_connection = True


def _arguments(given: Any) -> str:
    return given if isinstance(given, str) else json.dumps(given)


def _pieces(text: str) -> Iterator[str]:
    yield from (text[i : i + PIECE] for i in range(0, len(text), PIECE))


_numbers = iter(range(1, 10**9))


# -- Anthropic Messages -------------------------------------------------------------------------


def _blocks(step: Step) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = [{"type": "text", "text": step.text}] if step.text else []
    return blocks + [
        {"type": "tool_use", "id": f"toolu_{next(_numbers)}", "name": name, "input": given}
        for name, given in step.calls
    ]


def _message(asked: Asked, step: Step) -> dict[str, Any]:
    new, cached, written = step.tokens
    stop = "refusal" if step.refuse else "tool_use" if step.calls else "end_turn"
    return {
        "id": f"msg_{next(_numbers)}", "type": "message", "role": "assistant",
        "model": asked.body["model"], "content": _blocks(step), "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": new, "cache_creation_input_tokens": 0,
                  "cache_read_input_tokens": cached, "output_tokens": written},
    }  # fmt: skip


def _message_events(asked: Asked, step: Step) -> Iterator[tuple[str, Any]]:
    whole = _message(asked, step)
    start = {**whole, "content": [], "stop_reason": None}
    yield "message_start", {"type": "message_start", "message": start}
    for index, block in enumerate(whole["content"]):
        tool = block["type"] == "tool_use"
        empty = block | ({"input": {}} if tool else {"text": ""})
        yield (
            "content_block_start",
            {"type": "content_block_start", "index": index, "content_block": empty},
        )
        for piece in _pieces(_arguments(block["input"]) if tool else block["text"]):
            delta = (
                {"type": "input_json_delta", "partial_json": piece}
                if tool
                else {"type": "text_delta", "text": piece}
            )
            yield (
                "content_block_delta",
                {"type": "content_block_delta", "index": index, "delta": delta},
            )
        yield "content_block_stop", {"type": "content_block_stop", "index": index}
    ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield (
        "message_delta",
        {"type": "message_delta", "delta": ended, "usage": {"output_tokens": step.tokens[2]}},
    )
    yield "message_stop", {"type": "message_stop"}


# -- OpenAI chat completions --------------------------------------------------------------------


def _usage(step: Step) -> dict[str, Any]:
    new, cached, written = step.tokens
    return {
        "prompt_tokens": new + cached, "completion_tokens": written,
        "total_tokens": new + cached + written,
        "prompt_tokens_details": {"cached_tokens": cached},
    }  # fmt: skip


def _completion(asked: Asked, step: Step) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": step.text or None}
    if step.refuse:
        message["refusal"] = step.text or "I cannot help with that."
    if step.calls:
        message["tool_calls"] = [
            {"id": f"call_{next(_numbers)}", "type": "function",
             "function": {"name": name, "arguments": _arguments(given)}}
            for name, given in step.calls
        ]  # fmt: skip
    finish = "content_filter" if step.refuse else "tool_calls" if step.calls else "stop"
    return {
        "id": f"chatcmpl-{next(_numbers)}", "object": "chat.completion", "created": 1_760_000_000,
        "model": asked.body["model"], "usage": _usage(step),
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }  # fmt: skip


def _chunks(asked: Asked, step: Step) -> Iterator[tuple[str, Any]]:
    whole = _completion(asked, step)
    choice = whole["choices"][0]
    base = {k: whole[k] for k in ("id", "created", "model")} | {"object": "chat.completion.chunk"}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> tuple[str, Any]:
        return "", base | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant"})
    for piece in _pieces(step.text):
        yield chunk({"content": piece})
    for index, tool in enumerate(choice["message"].get("tool_calls", [])):
        function = tool["function"]
        yield chunk(
            {"tool_calls": [{**tool, "index": index, "function": {**function, "arguments": ""}}]}
        )
        for piece in _pieces(function["arguments"]):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, choice["finish_reason"])
    yield "", base | {"choices": [], "usage": whole["usage"]}
    yield "", "[DONE]"
