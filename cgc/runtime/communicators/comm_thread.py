"""A daemon thread that runs communication in the order in which it was started, so that the caller can compute."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

Task = Callable[[], Any]


class CommunicationThread:
    """Runs one task after the other. A daemon: a task that never ends does not keep the process alive."""

    def __init__(self, name: str, on_failure: Callable[[BaseException], None] | None = None) -> None:
        """`on_failure` hears what a task raises, besides who waits for the task: perhaps nobody does."""
        self._on_failure = on_failure
        self._tasks: SimpleQueue[tuple[Task, Future[Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """True on the thread itself."""
        return threading.current_thread() is self._thread

    def submit(self, task: Task) -> Future[Any]:
        """Run `task` after all that were submitted before; what it raises is the future's exception."""
        future: Future[Any] = Future()
        self._tasks.put((task, future))
        return future

    def stop(self, timeout: float) -> bool:
        """End after the tasks that are queued; False if they take longer than `timeout` seconds."""
        self._tasks.put(None)
        if not self.is_current:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (item := self._tasks.get()) is not None:
            task, future = item
            try:
                future.set_result(task())
            except BaseException as error:
                future.set_exception(error)
                if self._on_failure is not None:
                    self._on_failure(error)
            del item, task, future  # else the last task's tensors live until the next one comes
