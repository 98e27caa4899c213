"""
What outlives a graph: its ends of channels that still hold, or have still to give back, what was lent.

One thread of the process asks them all, as long as there are any.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

PAUSES = (0.01, 0.5)
"""Seconds between two looks at what is held beyond the end of a graph: at first, and when it takes long."""

logger = logging.getLogger(__name__)


class Keeper:
    """Asks until everything is done that is left over from graphs that have ended; its thread ends with that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unfinished: list[Callable[[], bool]] = []
        self._thread: threading.Thread | None = None

    def add(self, is_done: Callable[[], bool]) -> None:
        """Call `is_done` from time to time, in a thread of its own, until it says so."""
        with self._lock:
            self._unfinished.append(is_done)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="cgc-lending", daemon=True)
                self._thread.start()

    @property
    def unfinished(self) -> int:
        """Ends of channels that are still asked."""
        with self._lock:
            return len(self._unfinished)

    def _run(self) -> None:
        pause, longest = PAUSES
        known = 0
        while True:
            with self._lock:
                unfinished = list(self._unfinished)
            done = [each for each in unfinished if _is_over(each)]
            with self._lock:
                self._unfinished = [each for each in self._unfinished if each not in done]
                if not self._unfinished:
                    self._thread = None
                    return
                pause = min(2 * pause, longest) if len(self._unfinished) == known else PAUSES[0]
                known = len(self._unfinished)
            del unfinished, done
            time.sleep(pause)


def _is_over(is_done: Callable[[], bool]) -> bool:
    try:
        return is_done()
    except Exception:  # the device has failed: there is nothing left to keep
        logger.exception("what was lent by a graph that has ended is given up")
        return True


KEEPER = Keeper()
"""The one of this process."""
