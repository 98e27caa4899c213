"""Processes for tests of communicators: start some, and run a function on all of them at once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ray import cloudpickle

from cgc.runtime.communicators.rendezvous import MemfdRendezvous

REPLY_DEADLINE = 60.0
"""Seconds that a function may take before the test fails."""

Here = dict[str, Any]
"""What a rank's process keeps between calls: `rank`, and what functions put in (`group`)."""


class Ranks:
    """Several processes; `run` calls one function in each of them, with the process's `Here` first."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._links: list[Connection] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        script = Path(__file__).with_name("rank_process.py")
        for rank in range(count):
            ours, theirs = socket.socketpair()
            command = [sys.executable, str(script), str(theirs.fileno()), str(rank)]
            self._processes.append(subprocess.Popen(command, pass_fds=[theirs.fileno()]))
            theirs.close()
            self._links.append(Connection(ours.detach()))

    def join(self, name: str = "group", ranks: list[int] | None = None, **options: Any) -> None:
        """Make a `GlooGroup` of some processes (default: all) and keep it in each of them under `name`."""
        members = list(range(self.count)) if ranks is None else ranks
        rendezvous = MemfdRendezvous()
        self.run(_join, name, rendezvous, members, options, on=members)
        rendezvous.close()

    def run(self, function: Callable[..., Any], *args: Any, on: list[int] | None = None) -> list[Any]:
        """The results of `function(here, *args)` by rank. Raises `AssertionError` with the traceback if one failed."""
        ranks = list(range(self.count)) if on is None else on
        self.start(function, *args, on=ranks)
        return [self.result(rank) for rank in ranks]

    def start(self, function: Callable[..., Any], *args: Any, on: list[int]) -> None:
        if function.__module__ != __name__:  # the processes can import this module, but not tests
            cloudpickle.register_pickle_by_value(sys.modules[function.__module__])
        for rank in on:
            self._links[rank].send_bytes(cloudpickle.dumps((function, args)))

    def result(self, rank: int) -> Any:
        assert self._links[rank].poll(REPLY_DEADLINE), f"rank {rank} did not answer"
        succeeded, value = self._links[rank].recv()
        assert succeeded, f"rank {rank}: {value}"
        return value

    def kill(self, rank: int) -> None:
        self._processes[rank].send_signal(signal.SIGKILL)
        self._processes[rank].wait()

    def close(self) -> None:
        for link in self._links:
            link.close()
        for process in self._processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()


def _join(here: Here, name: str, rendezvous: MemfdRendezvous, members: list[int], options: dict[str, Any]) -> None:
    from cgc.runtime.communicators.gloo_group import GlooGroup

    here[name] = GlooGroup(rendezvous.open(30.0), members.index(here["rank"]), len(members), **options)
