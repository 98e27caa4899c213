"""
One round: a random graph is compiled, executed while things go wrong, and torn down; every outcome is judged.

All decisions come from the round's seed. What a machine's timing decides (which of several results a death still
lets through) is judged by rules that hold for each outcome.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import ray
import ray.exceptions

import cgc
from tools.chaos import faults
from tools.chaos.faults import ENDED, Victim
from tools.chaos.graphs import PAYLOADS, Bad, Graph, Token

READ = 60.0
"""Seconds after which a result that should come is called a hang."""

NOTICE = 20.0
"""Seconds within which the end of a graph has to be noticed, on a machine that is busy with everything else."""

MAX_CHANNEL_BYTES = 64 << 20

DEADLY = (*faults.DEATHS_BY_PLAN, *faults.DEATHS_FROM_OUTSIDE)

CapacityExceeded = ray.exceptions.RayCgraphCapacityExceeded
ChannelTimeout = ray.exceptions.RayChannelTimeoutError


@dataclass
class Report:
    """
    What happened in a round.

    Attributes:
        counts: Executions, checked values, and faults by name.
        problems: Everything that must not happen, in words; empty for a good round.
        notice_seconds: From a death to the first error that told of it.
        dying: The actor that a fault has killed.
    """

    seed: str
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    notice_seconds: list[float] = field(default_factory=list)
    dying: Victim | None = None


def play(seed: str, members: list[Victim], report: Report, random: Random) -> None:
    """Play a round on these actors."""
    graph = Graph.draw(random, len(members))
    if graph.meeting:
        report.counts[f"rounds with collectives {'over gloo' if graph.over_gloo else 'through shared memory'}"] += 1
    system_fault = random.choice((*faults.SYSTEM_FAULTS, None, None))
    options: dict[str, Any] = {
        "name": f"chaos-{seed}",
        "max_inflight_executions": random.choice((1, 2, 3, 8)),
        "max_channel_bytes": MAX_CHANNEL_BYTES,
    }
    is_async = random.random() < 0.2 and system_fault not in ("interrupt", "stop")
    compiled = cgc.compile(graph.bind([member.handle for member in members]), enable_asyncio=is_async, **options)
    player = _Player(random, graph, compiled, members, report, system_fault, options["max_inflight_executions"])
    try:
        if is_async:
            asyncio.run(asyncio.wait_for(player.run_async(), 2 * READ))
        else:
            player.run()
    finally:
        player.settle_fault()
        begin = time.monotonic()
        compiled.teardown()
        if time.monotonic() - begin > NOTICE:
            report.problems.append(f"teardown took {time.monotonic() - begin:.1f} s")


class _Player:
    def __init__(
        self,
        random: Random,
        graph: Graph,
        compiled: cgc.CompiledGraph,
        members: list[Victim],
        report: Report,
        system_fault: str | None,
        window: int,
    ) -> None:
        self.random = random
        self.graph = graph
        self.compiled = compiled
        self.members = members
        self.report = report
        self.system_fault = system_fault
        self.window = window
        self.executions = random.choice((10, 40, 160, 400))
        self.strike_at = random.randrange(self.executions)
        self.struck_at: float | None = None
        self.has_ended = False
        self.victim = members[random.randrange(len(members))]
        self.pending: dict[int, list[tuple[Any, int | str]]] = {}
        self._timer: threading.Timer | None = None

    @property
    def may_end(self) -> bool:
        """Whether a graph that has ended is no surprise."""
        return self.struck_at is not None and self.system_fault not in ("stop", "interrupt")

    def run(self) -> None:
        """The synchronous driver."""
        for execution in range(self.executions):
            if self.has_ended:
                break
            if execution == self.strike_at and self.system_fault is not None:
                self._strike(execution)
            if self.random.random() < 0.05:
                self._refuse_input(execution)
            self._submit(execution, self._plan(execution))
            while len(self.pending) >= self.window or (self.pending and self.random.random() < 0.4):
                self._read_one()
        while self.pending:
            self._read_one()
        if self.may_end and not self.has_ended:
            self._wait_for_end()

    async def run_async(self) -> None:
        """The driver in an event loop: as many executions at a time as are allowed."""
        turns = asyncio.Semaphore(self.window)

        async def execute(execution: int, plan: Mapping[int, str]) -> None:
            async with turns:
                try:
                    futures = await self.compiled.execute_async(*self._inputs(execution, plan))
                except Exception as error:
                    self._judge_error(error, None)
                    return
                self.report.counts["executions"] += 1
                futures = futures if self.graph.is_list else [futures]
                for future, expected in zip(futures, self.graph.expect(execution, plan), strict=True):
                    try:
                        value = await future
                    except Exception as error:
                        self._judge_error(error, expected)
                    else:
                        self._judge_value(value, expected)

        tasks = []
        for execution in range(self.executions):
            if execution == self.strike_at and self.system_fault is not None:
                await asyncio.get_running_loop().run_in_executor(None, self._strike, execution)
            tasks.append(asyncio.ensure_future(execute(execution, self._plan(execution))))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        deadline = time.monotonic() + NOTICE
        extra = self.executions
        while self.may_end and not self.has_ended and time.monotonic() < deadline:
            await execute(extra, {})
            extra += 1
        if self.may_end and not self.has_ended:
            self.report.problems.append(f"{self.system_fault} was not noticed within {NOTICE:g} s")

    def settle_fault(self) -> None:
        """Undo what would outlive the round."""
        if self._timer is not None:
            self._timer.join()
        if self.struck_at is not None and self.system_fault in DEADLY:
            self.report.dying = self.victim
        if self.system_fault == "stop" and self.struck_at is not None:
            faults.resume(self.victim)

    def _plan(self, execution: int) -> dict[int, str]:
        call = self.random.choice(self.graph.calls)
        if execution == self.strike_at and self.system_fault in faults.DEATHS_BY_PLAN:
            self.victim = self.members[call.actor]
            self.struck_at = time.monotonic()
            self.report.counts[f"fault {self.system_fault}"] += 1
            return {call.number: str(self.system_fault)}
        draw = self.random.random()
        if draw < 0.3:
            fault = self.random.choice(faults.VALUE_FAULTS)
        elif draw < 0.33:
            fault = "slow"
        else:
            return {}
        self.report.counts[f"fault {fault}"] += 1
        return {call.number: fault}

    def _inputs(self, execution: int, plan: Mapping[int, str]) -> list[Token]:
        return self.graph.inputs(execution, plan, self.random.choice(PAYLOADS))

    def _strike(self, execution: int) -> None:
        fault, victim = self.system_fault, self.victim
        if fault in faults.DEATHS_BY_PLAN:
            return  # the plan of this execution does it
        self.struck_at = time.monotonic()
        self.report.counts[f"fault {fault}"] += 1
        if fault == "interrupt":
            self._interrupt(execution)
        elif fault == "teardown":
            self._timer = faults.later(self.random, self.compiled.teardown)
        elif fault == "stop":
            faults.strike("stop", victim)
            self._timer = threading.Timer(self.random.uniform(0.05, 0.3), faults.resume, (victim,))
            self._timer.start()
        else:
            self._timer = faults.later(self.random, lambda: faults.strike(str(fault), victim))

    def _submit(self, execution: int, plan: Mapping[int, str]) -> None:
        inputs = self._inputs(execution, plan)
        try:
            try:
                refs = self.compiled.execute(*inputs)
            except CapacityExceeded:  # executions whose refs were dropped count until those before them were read
                self.report.counts["capacity exceeded"] += 1
                while self.pending:
                    self._read_one()
                refs = self.compiled.execute(*inputs)
        except Exception as error:
            self._judge_error(error, None)
            return
        self.report.counts["executions"] += 1
        refs = refs if self.graph.is_list else [refs]  # type: ignore[list-item]
        if self.random.random() < 0.05:
            self.report.counts["dropped"] += 1
            return
        self.pending[execution] = list(zip(refs, self.graph.expect(execution, plan), strict=True))

    def _refuse_input(self, execution: int) -> None:
        bad: list[Any] = [faults.unpicklable_input(execution)] * max(self.graph.parts, 1)
        try:
            self.compiled.execute(*bad)
        except CapacityExceeded:  # told before the inputs are looked at
            self.report.counts["capacity exceeded"] += 1
            return
        except TypeError as error:
            if bad[0].tag not in str(error):
                self.report.problems.append(f"the refusal of an input does not say why: {error}")
        except Exception as error:
            self._judge_error(error, None)
        else:
            if not self.may_end:
                self.report.problems.append("an input that cannot be pickled was accepted")
        self.report.counts["fault input"] += 1

    def _read_one(self) -> None:
        """Read one output, of any execution; at times with a time-out that is too short."""
        execution = self.random.choice(list(self.pending))
        outputs = self.pending[execution]
        ref, expected = outputs.pop(self.random.randrange(len(outputs)))
        if not outputs:
            del self.pending[execution]
        if self.random.random() < 0.1:
            try:
                self._judge_value(ref.get(timeout=self.random.choice((0, 0.001, 0.05))), expected)
                return
            except ChannelTimeout:
                self.report.counts["time-outs"] += 1
            except Exception as error:
                self._judge_error(error, expected)
                return
        try:
            value = ref.get(timeout=READ)
        except Exception as error:
            self._judge_error(error, expected)
        else:
            self._judge_value(value, expected)

    def _interrupt(self, execution: int) -> None:
        """Press Ctrl-C while a result is awaited; it can be read all the same."""
        number = 1_000_000 + execution
        plan = {self.graph.calls[0].number: "slow"}
        while self.pending:
            self._read_one()
        try:
            refs = self.compiled.execute(*self._inputs(number, plan))
            ref = refs[0] if self.graph.is_list else refs  # type: ignore[index]
            timer = faults.later(self.random, faults.press_ctrl_c)
            ref.get(timeout=READ)
            timer.join()
            time.sleep(READ)  # ended by Ctrl-C
        except KeyboardInterrupt:
            self.report.counts["interrupted"] += 1
        try:
            self._judge_value(ref.get(timeout=READ), self.graph.expect(number, plan)[0])
        except (ValueError, RuntimeError) as error:
            if "only be called once" not in str(error) and "was handed out before" not in str(error):
                self.report.problems.append(f"after Ctrl-C: {error!r}")

    def _wait_for_end(self) -> None:
        deadline = time.monotonic() + NOTICE
        execution = self.executions
        while not self.has_ended and time.monotonic() < deadline:
            self._submit(execution, {})
            while self.pending:
                self._read_one()
            execution += 1
        if not self.has_ended:
            self.report.problems.append(f"{self.system_fault} was not noticed within {NOTICE:g} s")

    def _judge_value(self, value: Any, expected: int | str) -> None:
        self.report.counts["values"] += 1
        if isinstance(value, Bad):  # a bad value may go to the driver unharmed where nobody has to pickle it
            if value.tag != expected:
                self.report.problems.append(f"wrong value: {value.tag}, expected {expected}")
        elif isinstance(expected, str):
            self.report.problems.append(f"fault {expected} was not reported: {value!r:.200}")
        else:
            value.check()
            if value.digest != expected:
                self.report.problems.append(f"wrong value: {value!r:.200}, expected digest {expected:#x}")

    def _judge_error(self, error: Exception, expected: int | str | None) -> None:
        if isinstance(error, ChannelTimeout):
            raise error  # a hang: the rest of the round would only repeat it
        if isinstance(error, ENDED) and self.may_end:
            self._note_end(error)
        elif isinstance(expected, str) and faults.explains(error, expected):
            self.report.counts["errors"] += 1
        else:
            self.report.problems.append(f"unexpected, where {expected!r} was expected: {type(error).__name__}: {error}")

    def _note_end(self, error: Exception) -> None:
        if not self.has_ended and self.struck_at is not None:
            self.report.notice_seconds.append(time.monotonic() - self.struck_at)
        self.has_ended = True
        is_death = isinstance(error, ray.exceptions.ActorDiedError)
        if is_death == (self.system_fault == "teardown"):
            self.report.problems.append(f"{self.system_fault} was told as {type(error).__name__}: {error}")
        elif is_death and self.victim.actor_id not in str(error):
            self.report.problems.append(f"the error does not name actor {self.victim.actor_id}: {error}")
