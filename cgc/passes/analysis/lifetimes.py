"""
Which messages of one writer can never be under way together, so that they can take turns in the same memory.

A message lives from its write until all its readers have taken it. Message 2 cannot meet message 1 if the writer, when
it comes to write 2, must have learned that 1 has been taken: by a message that says so, directly or by way of others.
That is what vector clocks tell: of each participant, how far it knows every other one to be. `order` serves as
position, because it rises along each program. All messages of one execution that share a ring then are there one at a
time, in the order in which they are written and read; a ring with a slot for each execution in flight still never
blocks its writer.

What is done on streams teaches nobody anything, since nothing in the program says when it is done.
"""

from __future__ import annotations

from collections.abc import Mapping

from cgc.ir import CollectiveOp, GroupOp, ProgramOp, ReceiveOp, RecvStartOp, SendOp
from cgc.passes.graph_view import Communication, communication, order_of

FULL_LIMIT = 64
"""With more participants, clocks hold only what was learned first-hand: fewer messages share, at linear cost."""

Clock = dict[str, int]
"""By participant: the largest order of its operations that is known to be done."""


def clocks_of_sends(programs: Mapping[str, ProgramOp]) -> dict[int, Clock]:
    """What the sender of each message knows when it sends; of level `scheduled`."""
    return _Learning(full=len(programs) <= FULL_LIMIT).run(programs)


class _Learning:
    """Goes along the line of all communication, which no operation can overtake, and keeps everybody's clock."""

    def __init__(self, *, full: bool) -> None:
        self.full = full
        self.clocks: dict[str, Clock] = {}
        self.at_send: dict[int, Clock] = {}
        self.met: dict[int, list[str]] = {}

    def run(self, programs: Mapping[str, ProgramOp]) -> dict[int, Clock]:
        line: list[tuple[int, bool, str, Communication]] = []
        for name, program in programs.items():
            self.clocks[name] = {}
            for operation in communication(program.body.block):
                line.append((order_of(operation), not isinstance(operation, SendOp), name, operation))
        line.sort(key=lambda item: item[:2])
        for order, _, name, operation in line:
            self._visit(order, name, operation)
        return self.at_send

    def _visit(self, order: int, name: str, operation: Communication) -> None:
        clock = self.clocks[name]
        # What is grouped is done in any order: it teaches nobody, and counts as done for whoever comes behind.
        alone = not isinstance(operation.parent_op(), GroupOp)
        if isinstance(operation, SendOp):
            self.at_send[operation.message.data] = dict(clock) if alone else {}
        elif isinstance(operation, CollectiveOp):
            if alone and operation.stream is None and operation.message is not None:
                self._meet(self.met.setdefault(operation.message.data, []), name, operation)
        elif isinstance(operation, ReceiveOp) and alone:
            if not isinstance(operation, RecvStartOp):
                self._learn(name, operation.sender_name, self.at_send[operation.message.data])
        clock[name] = order

    def _meet(self, arrived: list[str], name: str, operation: CollectiveOp) -> None:
        """The last of the participants to be visited tells all what each of them knew when it came."""
        arrived.append(name)
        if len(arrived) == len(operation.participant_names):
            known = {teacher: dict(self.clocks[teacher]) for teacher in arrived}
            for learner in arrived:
                for teacher in arrived:
                    self._learn(learner, teacher, known[teacher])

    def _learn(self, name: str, teacher: str, known: Clock) -> None:
        clock = self.clocks[name]
        news = known if self.full else {teacher: known.get(teacher, -1)}
        for other, place in news.items():
            if clock.get(other, -1) < place:
                clock[other] = place
