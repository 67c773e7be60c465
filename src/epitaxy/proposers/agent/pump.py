"""Requests under way, moved on only while somebody waits for them.

Between two waits nothing of this process runs: a kernel being measured meanwhile is not disturbed,
and what a server sends stays in the system's buffers.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

CLOSING_S = 2.0


class Pump:
    """Tasks by key on an event loop of their own; each wait runs it in a thread of its own, so that
    it also works where another loop is running (a notebook)."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: dict[int, asyncio.Task[Any]] = {}

    def start(self, key: int, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Begin `work()`; its outcome is handed out by `wait` under `key`."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        self._tasks[key] = self._loop.create_task(work())

    def busy(self, key: int) -> bool:
        """Whether something is under way under `key`."""
        return key in self._tasks

    def wait(self, seconds: float) -> list[tuple[int, Any]]:
        """(key, result or exception) of what has ended, after `seconds` at most."""
        if not self._tasks:
            return []
        self._run(self._some(seconds))
        ended = [(key, task) for key, task in self._tasks.items() if task.done()]
        for key, _ in ended:
            del self._tasks[key]
        return [(key, task.exception() or task.result()) for key, task in ended]

    async def _some(self, seconds: float) -> None:
        await asyncio.wait(
            self._tasks.values(), timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Drop what is under way, do `last`, and close the loop."""
        if self._loop is None:
            return
        self._run(self._end(last))
        self._loop.close()
        self._loop = None

    async def _end(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._tasks.clear()
        # A wait that was interrupted is still there as well.
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSING_S)
        await asyncio.wait_for(last(), CLOSING_S)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        loop = self._loop
        assert loop is not None
        failed: list[BaseException] = []

        def run() -> None:
            try:
                loop.run_until_complete(work)
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            thread.join()
        except BaseException:
            thread.join()  # what runs here is short
            raise
        if failed:
            raise failed[0]
