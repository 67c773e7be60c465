"""One conversation with a model, as a state machine over its messages. It waits for nobody.

    opening -> asking -> (calls) -> judging -> asking ... -> ended

`take` an answer: it gives the candidates to be judged; `hear` their verdicts: when every call has
its result, the next message is ready to be asked. Every message goes into the ledger when it is
made, so that a killed run goes on where it was.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from epitaxy.candidate import Candidate
from epitaxy.errors import EpitaxyError
from epitaxy.proposer import Left, Tool, View
from epitaxy.proposers.agent import calls, choice, context
from epitaxy.proposers.agent.client import Answer, Call, Client, Message
from epitaxy.record import printable
from epitaxy.verdict import Verdict

KIND = "agent"
"""Of its notes in the ledger."""
CONTEXT_TOKENS = 60_000
"""A conversation longer than this is ended, and a new one begun from the evidence."""
PATIENCE = 12
"""Candidates of one conversation judged in a row without a gain of MARGIN."""
MARGIN = 1.01
SAME, STUCK = 3, 5
"""Times that the same call is answered with a warning, and ends the conversation."""
IDLE = 20
"""Answers in a row without a candidate."""
SILENT = 2
"""Answers in a row without any call."""
MOST_CALLS = 8
"""Calls of one answer that are run: each may take half a minute, and a model sees nothing of one
before it asks for the next."""


class Way(Protocol):
    """What a model is told and what it may call."""

    cold: bool
    """Whether a problem without an accepted kernel is begun with the grower's first ones."""

    def system(self, view: View) -> str:
        """What holds for every conversation on this problem."""

    def opening(self, view: View, strategy: str, parent: Candidate | None) -> str:
        """The task."""

    def verdict(self, candidate: Candidate, found: Verdict, best: float) -> str:
        """A verdict as a call's result; `best` is the best merit known before."""

    def tools(self, view: View) -> tuple[Tool, ...]:
        """What may be called."""


@dataclass
class Conversation:
    """Number `island` of several, each with a strategy of its own."""

    client: Client
    island: int
    strategy: str
    seed: int
    way: Way
    messages: list[Message] = field(default_factory=list)
    chapter: int = 0
    system: str = ""
    parent: Candidate | None = None
    ended: str = ""
    """Why it is over; "" while it goes on."""
    open_calls: list[Call] = field(default_factory=list)
    results: dict[str, list[str]] = field(default_factory=dict)
    waiting: dict[str, set[str]] = field(default_factory=dict)
    """Call id to the digests of the candidates whose verdicts belong to its result."""
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    stale: int = 0
    gained: int = 0
    idle: int = 0
    silent: int = 0
    best: float = 0.0
    tokens: int = 0

    @property
    def ready(self) -> bool:
        """Whether the model is to be asked now."""
        return not self.ended and not self.open_calls and bool(self.messages)

    @property
    def worn(self) -> bool:
        """Whether a new chapter is worth its price: this one grew too long, or brought something
        and then no more."""
        return (self.ready and self.tokens > CONTEXT_TOKENS) or (
            bool(self.ended) and self.gained > 0 and self.stale >= PATIENCE
        )

    @property
    def pending(self) -> bool:
        """Whether it waits for verdicts."""
        return any(self.waiting.values())

    # -- beginning ------------------------------------------------------------------------------

    def begin(self, view: View, taken: Sequence[Candidate]) -> None:
        """Open a chapter from the evidence; `taken` are the parents of the other conversations."""
        rng = random.Random(f"{self.seed} {self.island} {self.chapter} {len(view.judged())}")
        best = view.best(choice.ELITE)
        self.parent = choice.parent(best, taken, rng)
        self.chapter += 1
        self.system = self.way.system(view)
        text = self.way.opening(view, self.strategy, self.parent)
        self.messages, self.ended = [], ""
        self.open_calls, self.results, self.waiting = [], {}, {}
        self.seen.clear()
        self.stale = self.gained = self.idle = self.silent = self.tokens = 0
        self._add(view, self.client.opening(self.system, text))

    def resume(self, view: View, notes: Sequence[Mapping[str, Any]]) -> Answer | None:
        """Go on with the last chapter of its `notes`; an answer that was not dealt with yet.

        One that had ended, or holds nothing, is left to `begin`. Raises BadInput on notes that
        cannot be read.
        """
        own = [n for n in notes if n["island"] == self.island and n["model"] == self.client.model]
        self.chapter = max((int(n["chapter"]) for n in own), default=0)
        last = [n for n in own if n["chapter"] == self.chapter]
        if not last or last[-1]["event"] == "ended":
            return None
        first = last[0]
        self.system = first["message"].get("instructions", "")
        judged = {c.digest: c for c, _ in view.judged()}
        self.parent = judged.get(first.get("parent", ""))
        self.messages = [
            dict(n["message"]) | ({"instructions": self.system} if n["event"] == "said" else {})
            for n in last
        ]
        self.client.check(self.messages)
        return self.client.read(self.messages[-1]) if last[-1]["event"] == "heard" else None

    def _add(self, view: View, message: Message) -> None:
        """A message of ours: kept without the system prompt, which the first one holds."""
        first = not self.messages
        kept = {k: v for k, v in message.items() if first or k != "instructions"}
        self.messages.append(message)
        parent = self.parent.digest if self.parent else ""
        self._note(view, "said", message=kept, **({"parent": parent} if first else {}))

    def _note(self, view: View, event: str, **body: Any) -> None:
        view.note(
            KIND, event=event, model=self.client.model, island=self.island, chapter=self.chapter,
            strategy=self.strategy, **body,
        )  # fmt: skip

    # -- an answer ------------------------------------------------------------------------------

    def take(self, view: View, answer: Answer, anew: bool = True) -> list[Candidate]:
        """Deal with an answer: candidates that it sends to the judge. Not `anew`: it is recorded
        already."""
        if anew and answer.message is not None:
            self.messages.append(answer.message)
            spent = answer.spending.to_dict()
            self._note(view, "heard", message=answer.message, finish=answer.finish, spent=spent)
        self.tokens = answer.tokens
        if answer.message is None:
            self.tokens = CONTEXT_TOKENS + 1  # begun again from the evidence, where that is shorter
            if len(self.messages) == 1:
                self.end(view, "the task does not fit the model's context")
        elif answer.finish == "content_filter":
            self.end(view, f"the model refused: {_line(answer.text) or 'no reason given'}")
        elif not answer.calls:
            self._unspoken(view, answer)
        else:
            self.silent = 0
            return self._calls(view, answer)
        return []

    def _unspoken(self, view: View, answer: Answer) -> None:
        self.silent += 1
        if self.silent >= SILENT:
            self.end(view, f"the model calls no tool: {_line(answer.text) or 'it says nothing'}")
            return
        self._add(view, self.client.reply(self.system, [], context.filled("nudge.md.j2")))

    def _calls(self, view: View, answer: Answer) -> list[Candidate]:
        tools = self.way.tools(view)
        self.open_calls, self.results, self.waiting = list(answer.calls), {}, {}
        found: list[Candidate] = []
        for number, call in enumerate(answer.calls):
            if why := _left_out(number, call, view.left(), len(found)):
                self.results[call.id] = [f"not run: {why}"]
                continue
            texts, candidates = self._one(view, call, tools, answer.finish == "length")
            if self.ended:
                return []
            self.results[call.id] = texts
            self.waiting[call.id] = {c.digest for c in candidates}
            found += candidates
        self.idle = 0 if found else self.idle + 1
        if self.idle >= IDLE:
            self.end(view, f"{IDLE} answers in a row without a candidate")
            return []
        self._proceed(view)
        return found

    def _one(
        self, view: View, call: Call, tools: Sequence[Tool], cut: bool
    ) -> tuple[list[str], list[Candidate]]:
        """The result of one call as far as it is known, and the candidates that it waits for."""
        if cut and call is self.open_calls[-1]:
            return ["error: your answer was cut at its limit of tokens — send less at once"], []
        key = (call.tool, " ".join(call.arguments.split()))
        self.seen[key] += 1
        if self.seen[key] >= STUCK:
            self.end(view, f"the model repeats itself: {call.tool}, {STUCK} times the same call")
            return [], []
        again = f"This is the {self.seen[key]}th time that you send this very call."
        warning = [again] if self.seen[key] >= SAME else []
        try:
            texts, candidates = self._result(view, call, tools)
        except EpitaxyError as error:
            texts, candidates = [calls.mistake(error)], []
        return [*texts, *warning], candidates

    def _result(
        self, view: View, call: Call, tools: Sequence[Tool]
    ) -> tuple[list[str], list[Candidate]]:
        if call.tool not in (calls.JUDGE, calls.FINISH, calls.GROW):
            return [calls.use(call, tools, view)], []
        given = calls.arguments(call, tools)
        if call.tool == calls.FINISH:
            self.end(view, f"the model is done: {_line(given['reason'])}")
            return [], []
        if call.tool == calls.GROW:
            asked = calls.grown(view, given)
        else:
            asked = [calls.candidate(view, given, self.parent)]
        known = [self._known(view, c) for c in asked]
        texts = [text for text in known if text]
        new = [c for c, text in zip(asked, known, strict=True) if not text]
        return texts or ([] if new else ["nothing new can be grown"]), new

    def _known(self, view: View, candidate: Candidate) -> str:
        """The verdict on the same sources, if they have been judged: after a restart it is what the
        call has been waiting for."""
        for other, verdict in view.judged():
            if other.digest == candidate.digest or other.files == candidate.files:
                best = view.best(1)
                text = self.way.verdict(other, verdict, best[0][1].merit if best else 0.0)
                return f"judged already: {text}"
        return ""

    # -- a verdict ------------------------------------------------------------------------------

    def hear(self, view: View, verdict: Verdict, candidate: Candidate) -> None:
        """A verdict came in; it may be one that this conversation waits for."""
        mine = [id for id, waits in self.waiting.items() if verdict.candidate in waits]
        for id in mine:
            self.waiting[id].discard(verdict.candidate)
            self.results[id].append(self.way.verdict(candidate, verdict, self.best))
        if mine:
            better = verdict.merit > self.best * MARGIN
            self.stale, self.gained = 0 if better else self.stale + 1, self.gained + better
        self.best = max(self.best, verdict.merit)
        if not mine:
            return
        if self.stale >= PATIENCE:
            self.end(view, f"{PATIENCE} candidates in a row brought nothing")
        else:
            self._proceed(view)

    def _proceed(self, view: View) -> None:
        """With every call's result there, the next message."""
        if self.pending:
            return
        results = [(call, "\n\n".join(self.results[call.id])) for call in self.open_calls]
        self.open_calls, self.results = [], {}
        self._add(view, self.client.reply(self.system, results))

    def end(self, view: View, why: str) -> None:
        """Say why it is over, and keep that."""
        self.ended, self.open_calls, self.results, self.waiting = why, [], {}, {}
        self._note(view, "ended", reason=why)


def _left_out(number: int, call: Call, left: Left, sent: int) -> str:
    """Why call `number` of an answer that has `sent` candidates is not run; "" where it is."""
    if number >= MOST_CALLS:
        return f"{MOST_CALLS} calls of one answer are the most — read these first"
    if left.over or (left.candidates is not None and sent >= left.candidates):
        return "the budget is spent"
    if left.paid and call.tool not in (calls.JUDGE, calls.GROW):  # those cost nothing more
        return f"no {left.paid} left to read it with"
    return ""


def _line(text: str) -> str:
    return printable(" ".join(text.split()))[:160]
