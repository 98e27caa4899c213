"""What an actor of a running graph is doing, read from its progress words without disturbing it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cgc.runtime import protocol
from cgc.runtime.program import Call, Collective, Group, Operation, Program, Read, ReadStart, Wait


@dataclass(frozen=True, slots=True)
class ParticipantStatus:
    """
    A look at one actor.

    Attributes:
        actor: How to name it in a message.
        activity: `"calling"` a method, `"waiting"` for a message, `"sending"` one, or `"starting"`: nothing yet.
        execution: The execution it is working on, from 0; -1 before the first.
        operation: The operation as the program prints it, with its source line; empty before the first.
        seconds: How long it has been in this operation.
        stack: Where in the user's code it is, innermost line last; empty if nobody asked, or it only waits.
    """

    actor: str
    activity: str
    execution: int
    operation: str
    seconds: float
    stack: str = ""

    def __str__(self) -> str:
        return self.head() + (f"\n{self.stack}" if self.stack else "")

    def head(self) -> str:
        """The status without the stack, one line."""
        if self.activity == "starting":
            return f"{self.actor} has not begun"
        return (
            f"{self.actor} is {self.activity} in execution {self.execution} for {self.seconds:.1f} s: {self.operation}"
        )


def read_status(actor: str, program: Program, progress: memoryview, now_ns: int) -> ParticipantStatus:
    """The status of an actor at `time.monotonic_ns()`; words are read one by one, so they may be a step apart."""
    return status_of(actor, progress, now_ns, lambda number: describe_operation(program.operations[number], program))


def status_of(
    actor: str, progress: memoryview, now_ns: int, describe: Callable[[int], tuple[str, str]]
) -> ParticipantStatus:
    """The same where only the descriptions of the operations are known, by their numbers."""
    execution = int(progress[protocol.PROGRESS_EXECUTION]) - 1
    if execution < 0:
        return ParticipantStatus(actor, "starting", -1, "", 0.0)
    activity, text = describe(int(progress[protocol.PROGRESS_OPERATION]))
    seconds = max(0.0, (now_ns - int(progress[protocol.PROGRESS_SINCE])) / 1e9)
    return ParticipantStatus(actor, activity, execution, text, seconds)


def describe_operation(operation: Operation, program: Program) -> tuple[str, str]:
    """What an actor does in an operation, and which one that is, with its source line."""
    return _activity(operation), _describe(operation, program) + (
        f" ({operation.location})" if operation.location else ""
    )


def explain_lateness(statuses: Sequence[ParticipantStatus]) -> str:
    """Text for a time-out: first who computes or cannot send, as the cause, then who only waits; then the stacks."""
    order = {"calling": 0, "sending": 1, "starting": 2, "waiting": 3}
    ranked = sorted(statuses, key=lambda status: order[status.activity])
    late = [status for status in ranked if status.activity != "waiting"]
    head = f"Late: {'; '.join(status.head() for status in late)}." if late else "No actor is in a call."
    waiting = [status.head() for status in ranked if status.activity == "waiting"]
    stacks = [f"\nStack of {status.actor}:\n{status.stack}" for status in late if status.stack]
    return head + (f" Waiting: {'; '.join(waiting)}." if waiting else "") + "".join(stacks)


def _activity(operation: Operation) -> str:
    if isinstance(operation, Call):
        return "calling"
    return "waiting" if isinstance(operation, Read | ReadStart | Wait | Group | Collective) else "sending"


def _describe(operation: Operation, program: Program) -> str:
    if isinstance(operation, Read | ReadStart):
        writer = next(channel.writer for channel in program.channels if channel.name == operation.channel)
        verb = "read" if isinstance(operation, Read) else "read_start"
        return f"{verb} {operation.channel} from @{writer}"
    if isinstance(operation, Group):
        return f"group {{ {'; '.join(_describe(part, program) for part in operation.operations)} }}"
    return str(operation)
