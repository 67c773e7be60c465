"""The server on the official SDK: tools with typed results, resources, prompts, stdio and HTTP."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import threading
import typing
from collections.abc import Callable
from importlib import resources
from typing import Annotated, Any

import anyio
import anyio.to_thread
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ToolError
from mcp.server.mcpserver.tools import Tool
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field, ValidationError, create_model

from epitaxy import __version__
from epitaxy.errors import BadInput, EpitaxyError
from epitaxy.serve.jobs import Job, Jobs
from epitaxy.serve.schema import filled, model_of
from epitaxy.serve.tools import LONG, MEASURES, READ, Tools
from epitaxy.timing import now_s

PATIENCE_S = 40.0
"""After so long a call answers with its job's id: clients give up at about 60 s."""
LOOK_S, TELL_S = 0.1, 5.0
LOOPBACK = "127.0.0.1"
LINGER_S = 5.0


def data(name: str) -> str:
    """A text of this package by its path."""
    return (resources.files("epitaxy") / "serve" / name).read_text(encoding="utf-8")


class Exact(Tool):
    """A tool that refuses arguments it does not have, and says what is wrong in one line."""

    @classmethod
    def of(cls, function: Callable[..., Any], title: str, writes: bool) -> Exact:
        """The tool that calls `function`; one that only reads says so."""
        made = cls.from_function(function, title=title, annotations=_annotations(writes))
        model = made.fn_metadata.arg_model
        model.model_config["extra"] = "forbid"
        model.model_rebuild(force=True)
        made.parameters = model.model_json_schema(by_alias=True)
        return made  # type: ignore[return-value]

    async def run(self, arguments: Any, context: Any, convert_result: bool = False) -> Any:
        """As the SDK's, with one line for arguments that do not fit."""
        try:
            return await super().run(arguments, context, convert_result)
        except ToolError as error:
            if isinstance(error.__cause__, ValidationError):
                raise ToolError(_one_line(error.__cause__, self)) from error.__cause__
            raise


def _annotations(writes: bool) -> ToolAnnotations:
    return ToolAnnotations(read_only_hint=not writes, destructive_hint=False, open_world_hint=False)


def _one_line(error: ValidationError, tool: Tool) -> str:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "the arguments"
    if first["type"] == "extra_forbidden":
        known = ", ".join(tool.parameters.get("properties", {})) or "no arguments"
        return f"{tool.name} has no argument {where!r} (it takes {known})"
    return f"{tool.name}: {where}: {first['msg']} (see the tool's schema)"


def make(tools: Tools, patience_s: float = PATIENCE_S) -> tuple[MCPServer[Any], Jobs]:
    """The server over `tools`, and its jobs; whoever runs it closes both afterwards."""
    jobs = Jobs(tools.machine)
    offered = [
        *(_read(getattr(tools, name)) for name in READ),
        *(_long(getattr(tools, name), jobs, patience_s) for name in LONG),
        *(Exact.of(f, f.__name__, False) for f in _job_tools(jobs, patience_s)),
    ]
    server: MCPServer[Any] = MCPServer(
        "epitaxy",
        title="Epitaxy",
        version=__version__,
        instructions=data("instructions.md"),
        tools=list(offered),
        log_level="WARNING",
    )
    _resources(server, tools)
    _prompts(server, tools)
    return server, jobs


# -- tools --------------------------------------------------------------------------------------


def _read(method: Callable[..., Any]) -> Exact:
    """A tool that answers at once."""

    async def run(**arguments: Any) -> BaseModel:
        return filled(await anyio.to_thread.run_sync(_told(functools.partial(method, **arguments))))

    hints = typing.get_type_hints(method, include_extras=True)
    _dress(run, method, hints, model_of(hints["return"]))
    return Exact.of(run, _title(method), False)


def _long(method: Callable[..., Any], jobs: Jobs, patience_s: float) -> Exact:
    """A tool that answers with its result, or with the id of its job where that takes longer."""
    name = method.__name__
    hints = typing.get_type_hints(method, include_extras=True)
    answer = _answer(name, model_of(hints["return"]))

    async def run(ctx: Context[Any, Any], **arguments: Any) -> BaseModel:
        work = functools.partial(method, **arguments)
        job = jobs.start(name, work, name in MEASURES)
        try:
            await _wait(job, ctx, patience_s)
        except anyio.get_cancelled_exc_class():
            # The client takes its request back. Ending processes may take a moment: not here.
            threading.Thread(target=jobs.cancel, args=(job.id,), daemon=True).start()
            raise
        return _answered(answer, job)

    _dress(run, method, hints, answer, context=True)
    return Exact.of(run, _title(method), name in MEASURES)


def _answer(name: str, result: Any) -> type[BaseModel]:
    return create_model(
        f"{name.title().replace('_', '')}Answer",
        __doc__="`result` when `done`; else ask job_result for `job_id`. `steps`: what it did.",
        done=(bool, ...),
        job_id=(str, ...),
        steps=(list[str], ...),
        result=(result | None, None),
    )


def _answered(answer: type[BaseModel], job: Job) -> BaseModel:
    card = job.card()
    known = {"done": job.done, "job_id": job.id, "steps": list(card.steps)}
    result = _told(job.result)().to_dict() if job.done else None
    return answer.model_validate({**known, "result": result})


def _told(work: Callable[[], Any]) -> Callable[[], Any]:
    """`work` with our errors as the SDK's: message and mend reach the agent."""

    def run() -> Any:
        try:
            return work()
        except EpitaxyError as error:
            raise ToolError(f"{error.message} ({error.mend})") from None

    return run


async def _wait(job: Job, ctx: Context[Any, Any], patience_s: float) -> None:
    """Until the job is done or patience is over; its steps are told as they come."""
    start_s = told_s = now_s()
    said = 0
    while not job.done and now_s() - start_s < patience_s:
        await anyio.sleep(LOOK_S)
        if job.said > said or now_s() - told_s > TELL_S:
            said, told_s = job.said, now_s()
            text = job.steps[-1] if job.steps else "waiting for another job"
            await ctx.report_progress(round(told_s - start_s, 1), None, text)


async def _ended(job: Job) -> None:
    """Until a cancelled job is over, for a few seconds at most: a compiler is not interrupted."""
    start_s = now_s()
    while not job.done and now_s() - start_s < LINGER_S:
        await anyio.sleep(LOOK_S)


def _dress(
    run: Any, method: Callable[..., Any], hints: dict[str, Any], answer: Any, context: bool = False
) -> None:
    """Give the wrapper the method's name, text, parameters, and its own answer."""
    parameters = [
        p.replace(annotation=_described(hints[p.name]), kind=inspect.Parameter.KEYWORD_ONLY)
        for p in inspect.signature(method).parameters.values()
        if p.name != "say"
    ]
    if context:
        own = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=Context)
        parameters = [own, *parameters]
    run.__name__ = method.__name__
    run.__doc__ = " ".join((inspect.getdoc(method) or "").split())
    run.__signature__ = inspect.Signature(parameters, return_annotation=answer)
    run.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": answer}


def _described(hint: Any) -> Any:
    """`Annotated[T, "text"]` with the text where the schema shows it."""
    if typing.get_origin(hint) is not Annotated:
        return hint
    kind, *notes = typing.get_args(hint)
    return Annotated[kind, Field(description=" ".join(n for n in notes if isinstance(n, str)))]


def _title(method: Callable[..., Any]) -> str:
    return method.__name__.replace("_", " ").capitalize()


def _job_tools(jobs: Jobs, patience_s: float) -> list[Callable[..., Any]]:
    """job_status, job_result and job_cancel."""
    status = model_of(_card_type())
    answer = _answer("job_result", dict[str, Any])

    async def job_status(job_id: str) -> Any:
        return filled(_told(lambda: jobs.get(job_id))().card())

    async def job_result(ctx: Context[Any, Any], job_id: str, wait_s: float = 30.0) -> Any:
        if not 0 <= wait_s <= PATIENCE_S:
            raise ToolError(f"wait_s={wait_s:g} (give 0 to {PATIENCE_S:g})")
        job = _told(lambda: jobs.get(job_id))()
        await _wait(job, ctx, min(wait_s, patience_s))
        return _answered(answer, job)

    async def job_cancel(job_id: str) -> Any:
        job = await anyio.to_thread.run_sync(_told(lambda: jobs.cancel(job_id)))
        await _ended(job)
        return filled(job.card())

    job_cancel.__doc__ = (
        "End a job: its processes are stopped, and no verdict is recorded. Say what became of it."
    )
    job_status.__doc__ = "Where a job stands, at once: queued, running, done, failed or cancelled."
    job_result.__doc__ = "Wait up to wait_s seconds (at most 40) for a job and give its result."
    for function, kind in ((job_status, status), (job_result, answer), (job_cancel, status)):
        hints = typing.get_type_hints(function)
        function.__annotations__ = {**hints, "return": kind}
    return [job_status, job_result, job_cancel]


def _card_type() -> Any:
    from epitaxy.serve.jobs import JobCard

    return JobCard


# -- resources and prompts ----------------------------------------------------------------------


def _resources(server: MCPServer[Any], tools: Tools) -> None:
    def found(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except EpitaxyError as error:
            raise ResourceError(f"{error.message} ({error.mend})") from None

    @server.resource("epitaxy://problem/{name}", title="A problem's source", mime_type="text/plain")
    def problem(name: str) -> str:
        """The reference that says what is correct."""
        return str(found(lambda: tools.offers.problem(name)).source)

    @server.resource("epitaxy://chip/{name}", title="A chip", mime_type="application/json")
    def chip(name: str) -> dict[str, Any]:
        """A chip's figures; local is this machine."""
        wanted = "" if name == "local" else name
        card = found(lambda: tools.chip_card(lambda _: None, wanted))
        return dict(card.to_dict())

    @server.resource("epitaxy://guide/{name}", title="A guide", mime_type="text/markdown")
    def guide(name: str) -> str:
        """How to write fast code for a chip; local is this machine's."""
        wanted = "" if name == "local" else name
        return str(found(lambda: tools.read_guide(lambda _: None, wanted)).text)

    @server.resource("epitaxy://candidate/{id}", title="A candidate", mime_type="text/plain")
    def candidate(id: str) -> str:
        """Every source file of a candidate."""
        card = found(lambda: tools.show(id))
        return "\n".join(f"==> {name} <==\n{text}" for name, text in card.files.items())

    @server.resource("epitaxy://candidate/{id}/{file}", title="A file", mime_type="text/plain")
    def candidate_file(id: str, file: str) -> str:
        """One source file of a candidate."""
        files = found(lambda: tools.show(id)).files
        if file not in files:
            raise ResourceError(f"there is no {file} (files: {', '.join(files)})")
        return str(files[file])


def _prompts(server: MCPServer[Any], tools: Tools) -> None:
    @server.prompt(title="Make a problem faster")
    def optimize(problem: str) -> str:
        """From a cold problem to a proven, exported kernel."""
        return data("prompts/optimize.md").replace("{problem}", problem)

    @server.prompt(title="Why is this candidate slow?")
    def explain(candidate: str) -> str:
        """Find what limits a candidate and what to try next."""
        return data("prompts/explain.md").replace("{candidate}", candidate)


# -- running ------------------------------------------------------------------------------------


def serve(tools: Tools, port: int | None = None) -> None:
    """Serve over stdio, or over HTTP on this machine's loopback at `port`, until the end.

    Raises BadInput for a port that cannot be.
    """
    if port is not None and not 1 <= port <= 65535:
        raise BadInput(f"port {port} cannot be", "give 1 to 65535")
    server, jobs = make(tools)
    try:
        if port is None:
            server.run("stdio")
        else:
            server.run("streamable-http", host=LOOPBACK, port=port)
    finally:
        jobs.close()
        if not jobs.wait(LINGER_S):
            # A client that has left does not wait for a measurement: its processes are ended.
            with contextlib.suppress(Exception):
                tools.machine.close()
            os._exit(0)
        tools.close()
