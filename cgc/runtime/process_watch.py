"""
Tells within milliseconds that another process of this machine has ended, at no cost while it lives.

One daemon thread per process waits in `poll` on a pidfd of each watched process. Drivers watch the processes of their
actors, workers those of their drivers. Where the kernel or a sandbox refuses pidfds, the thread looks at `/proc`
every `FALLBACK_INTERVAL` seconds instead.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FALLBACK_INTERVAL = 0.05
"""Seconds between looks at processes without a pidfd."""

NO_WATCH = 0
"""A token that `ProcessWatcher.watch` never returns."""

logger = logging.getLogger(__name__)


def process_state(pid: int) -> str:
    """The kernel's letter for what a process does (`R`, `S`, `D`, `T`, `Z`, ...), empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return ""


def is_running(pid: int) -> bool:
    """Whether a process runs; False for zombies: they have ended."""
    return process_state(pid) not in ("", "Z", "X")


def wait_until_ended(pid: int, timeout: float) -> bool:
    """Wait for the end of a process, at most `timeout` seconds; whether it has ended."""
    pidfd = _open_pidfd(pid)
    if pidfd >= 0:
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            return bool(poll.poll(timeout * 1000))
        finally:
            os.close(pidfd)
    deadline = time.monotonic() + timeout
    while is_running(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(FALLBACK_INTERVAL / 10)
    return True


@dataclass(frozen=True, slots=True)
class _Watch:
    pid: int
    pidfd: int
    """-1 where there is none."""
    on_death: Callable[[], None]


class ProcessWatcher:
    """Calls back, in its own thread, when a watched process has ended. The thread ends when nothing is watched."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a garbage collection inside may end a graph, which forgets a watch
        self._watches: dict[int, _Watch] = {}
        self._numbers = itertools.count(1)
        self._wake_read = -1
        self._wake_write = -1
        self._thread: threading.Thread | None = None

    def watch(self, pid: int, on_death: Callable[[], None]) -> int:
        """
        Call `on_death` once when the process has ended (soon, if it has already); returns a token for `forget`.

        The callback must be short: others wait for it.
        """
        watch = _Watch(pid, _open_pidfd(pid), on_death)
        with self._lock:
            token = next(self._numbers)
            self._watches[token] = watch
            if self._thread is None:
                self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
                self._thread = threading.Thread(target=self._run, name="cgc-process-watch", daemon=True)
                self._thread.start()
            else:
                self._wake()
        return token

    def forget(self, token: int) -> None:
        """Watch no longer. The callback may still be running when this returns. Unknown tokens are ignored."""
        with self._lock:
            watch = self._watches.pop(token, None)
            if watch is not None:
                _close_pidfd(watch)
                self._wake()

    def _wake(self) -> None:
        if self._thread is None:
            return
        with contextlib.suppress(BlockingIOError):  # the pipe is full of wake-ups
            os.write(self._wake_write, b"w")

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._watches:
                    os.close(self._wake_read)
                    os.close(self._wake_write)
                    self._thread = None
                    return
                watches = dict(self._watches)
                poll = select.poll()
                poll.register(self._wake_read, select.POLLIN)
                for watch in watches.values():
                    if watch.pidfd >= 0:
                        poll.register(watch.pidfd, select.POLLIN)
                without_pidfd = any(watch.pidfd < 0 for watch in watches.values())
            ready = {descriptor for descriptor, _ in poll.poll(FALLBACK_INTERVAL * 1000 if without_pidfd else None)}
            if self._wake_read in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
            for token, watch in watches.items():
                if watch.pidfd in ready if watch.pidfd >= 0 else not is_running(watch.pid):
                    self._report(token, watch)

    def _report(self, token: int, watch: _Watch) -> None:
        with self._lock:
            if self._watches.get(token) is not watch:
                return
            del self._watches[token]
            _close_pidfd(watch)
        try:
            watch.on_death()
        except Exception:
            logger.exception("the reaction to the end of process %d failed", watch.pid)


def _open_pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:  # ESRCH: it has ended, which the look at /proc will find; ENOSYS, EPERM: no pidfds here
        return -1


def _close_pidfd(watch: _Watch) -> None:
    if watch.pidfd >= 0:
        os.close(watch.pidfd)


watcher = ProcessWatcher()
"""The one of this process."""
