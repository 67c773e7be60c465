"""The agent: a language model that writes kernels, judged as anybody's.

It asks one model in several conversations (islands), each with a strategy of its own. A `judge`
call of the model's is a candidate that `propose` returns; the verdict that `learn` brings is the
call's result. What the model is asked moves on only while `propose` waits, never while a kernel is
measured.
"""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from epitaxy.candidate import Candidate
from epitaxy.errors import BadInput, BadProblem
from epitaxy.plugin import plugins
from epitaxy.proposer import Spending, View
from epitaxy.verdict import Finding, Verdict

if TYPE_CHECKING:
    from epitaxy.proposers.agent.client import Client
    from epitaxy.proposers.agent.conversation import Conversation, Way
    from epitaxy.proposers.agent.pump import Pump

MODEL_VARIABLE = "EPITAXY_MODEL"
START = "grower"
"""The proposer whose first candidates a cold search begins from."""
STARTS = 2
LOOK_S = 1.0
"""Between two looks at the clock while the model thinks."""
MOST_ISLANDS = 8


def plugin() -> Agent:
    """An agent that has not been told yet which model to ask."""
    return Agent()


class Agent:
    """Asks `model` in `islands` conversations; without a model, the one in $EPITAXY_MODEL."""

    name = "agent"

    def __init__(self, model: str = "", islands: int = 1) -> None:
        self.model, self.islands = model, islands
        self.way: Way | None = None
        """What the model is told and offered, if not all there is (`context.Seeing`)."""
        self._client: Client | None = None
        self._pump: Pump | None = None
        self._conversations: list[Conversation] = []
        self._ready: deque[Candidate] = deque()
        self._sent: dict[str, Candidate] = {}
        self._view: View | None = None
        self._spending = Spending()
        self._reason = ""
        self._started = False
        self.notes: list[Finding] = []

    # -- asking a model -------------------------------------------------------------------------

    def asking(self, model: str, islands: int = 1) -> Agent:
        """An agent for `model`, its key and package looked for at once."""
        from epitaxy.proposers.agent.client import Client

        named = model or os.environ.get(MODEL_VARIABLE, "")
        if not named:
            raise BadInput(
                "no model is named", f"give --model provider/model, or set {MODEL_VARIABLE}"
            )
        if not 1 <= islands <= MOST_ISLANDS:
            raise BadInput(f"{islands} islands", f"1 to {MOST_ISLANDS} conversations are possible")
        agent = Agent(named, islands)
        agent._client = Client(named)
        return agent

    def spent(self) -> Spending:
        """What this run has asked for."""
        return self._spending

    def bill(self) -> str:
        """That in one line."""
        return f"{self.model}: {self._spending}"

    def transcript(self, notes: Sequence[Mapping[str, Any]]) -> str:
        """What was said, as Markdown."""
        from epitaxy.proposers.agent.transcript import render

        return render(notes)

    def close(self) -> None:
        """Drop the requests under way; what was said is in the ledger."""
        if self._pump is not None and self._client is not None:
            self._pump.close(self._client.close)
        self._pump = None

    # -- the proposer's contract ----------------------------------------------------------------

    def propose(self, view: View, count: int) -> Sequence[Candidate]:
        """Up to `count` candidates of the conversations; waits for the model only while there is
        nothing to judge, and the budget lasts."""
        if self._client is None:
            raise BadInput(
                "the agent has no model", f"give --model provider/model, or set {MODEL_VARIABLE}"
            )
        self._view = view
        start = self._start(view, count)
        if start or (view.pending() and not self._conversations):
            return start
        self._begin(view)
        if view.pending():
            self._ask(view)
            self._wait(view, 0.0)
        while not self._ready and not view.pending():
            left = view.left()
            if left.paid or left.over:
                self._reason = f"no {left.paid} left" if left.paid else "the budget is spent"
                return []
            self._ask(view)
            if self._over(view):
                return []
            self._wait(view, LOOK_S if left.seconds is None else min(LOOK_S, left.seconds))
            if left.preparing and not self._ready:
                return []
        return [self._ready.popleft() for _ in range(min(count, len(self._ready)))]

    def learn(self, verdicts: Sequence[Verdict]) -> None:
        """Verdicts are the results of the calls that wait for them."""
        if self._view is None:
            return
        for verdict in verdicts:
            candidate = self._sent.pop(verdict.candidate, None)
            for conversation in self._conversations if candidate else ():
                assert candidate is not None
                conversation.hear(self._view, verdict, candidate)

    def stop_reason(self) -> str:
        """Why the last answer was empty."""
        return self._reason or "the model has been asked for nothing yet"

    # -- its parts ------------------------------------------------------------------------------

    @property
    def _way(self) -> Way:
        from epitaxy.proposers.agent.context import Seeing

        return self.way or Seeing()

    def _start(self, view: View, count: int) -> list[Candidate]:
        """Where nothing is accepted yet: what the grower writes first, so that there is a kernel
        to begin from."""
        if self._started or view.best(1) or not self._way.cold:
            return []
        self._started = True
        try:
            found = plugins("proposers").get(START).propose(view, min(count, STARTS))
        except BadProblem as error:
            view.say(f"the agent begins from nothing: {error.message}")
            return []
        return list(found)

    def _begin(self, view: View) -> None:
        """Open the conversations, or take them up again; new chapters for those that ended."""
        from epitaxy.proposers.agent import context, conversation
        from epitaxy.proposers.agent.pump import Pump

        assert self._client is not None
        if self._pump is None:
            self._pump = Pump()
        if self._conversations:
            return
        names = list(context.strategies())
        notes = view.notes(conversation.KIND)
        for island in range(self.islands):
            talk = conversation.Conversation(
                self._client, island, names[island % len(names)], view.seed, self._way
            )
            self._conversations.append(talk)
            self._resume(view, talk, notes)

    def _resume(self, view: View, talk: Conversation, notes: Sequence[Any]) -> None:
        try:
            answer = talk.resume(view, notes)
        except BadInput as error:
            view.say(str(error))
            talk.messages = []
            answer = None
        if not talk.messages:
            talk.begin(view, self._taken(talk))
        elif answer is not None:
            self._take(view, talk, answer, anew=False)

    def _taken(self, but: Conversation) -> list[Candidate]:
        return [t.parent for t in self._conversations if t is not but and t.parent is not None]

    def _ask(self, view: View) -> None:
        """Put every question that is ready."""
        assert self._pump is not None
        client = self._client
        assert client is not None
        tools = self._way.tools(view)
        for talk in self._conversations:
            if talk.worn:
                talk.begin(view, self._taken(talk))
            if talk.ready and not self._pump.busy(talk.island):
                ask = functools.partial(client.ask, list(talk.messages), tools, view.say)
                self._pump.start(talk.island, ask)

    def _over(self, view: View) -> bool:
        """Whether there is nothing left to wait for; `_reason` says why."""
        assert self._pump is not None
        if any(self._pump.busy(t.island) or t.pending for t in self._conversations):
            return False
        self._reason = "; ".join(dict.fromkeys(t.ended for t in self._conversations if t.ended))
        return True

    def _wait(self, view: View, seconds: float) -> None:
        from epitaxy.proposers.agent.client import Unanswered

        assert self._pump is not None
        for island, outcome in self._pump.wait(seconds):
            talk = self._conversations[island]
            if isinstance(outcome, Unanswered):
                talk.end(view, str(outcome))
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                self._pay(outcome.spending)
                self._take(view, talk, outcome)
        view.say(self._phase())

    def _take(self, view: View, talk: Conversation, answer: Any, anew: bool = True) -> None:
        best = view.best(1)
        talk.best = max(talk.best, best[0][1].merit if best else 0.0)
        for candidate in talk.take(view, answer, anew):
            if candidate.digest not in self._sent:
                self._ready.append(candidate)
            self._sent[candidate.digest] = candidate

    def _pay(self, spent: Spending) -> None:
        if spent.unpriced and not self._spending.unpriced:
            said = f"no price is known for {self.model}: only tokens are counted"
            self.notes.append(Finding(check=self.name, severity="note", message=said))
        self._spending = self._spending + spent

    def _phase(self) -> str:
        spent = self._spending
        money = f", {spent.usd:.2f} USD" if spent.usd else ""
        return f"{self.model} thinks ({spent.requests} answers{money})"
