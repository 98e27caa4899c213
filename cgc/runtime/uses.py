"""Who uses the registers of a program: what `link` has to know to put a value where it is wanted."""

from __future__ import annotations

from collections import Counter, defaultdict

from cgc.runtime.arguments import registers_of
from cgc.runtime.program import Call, Collective, Copy, Group, Operation, Output, Program, Read, Wait, Write


class Uses:
    """The users of each register of a program."""

    def __init__(self, program: Program) -> None:
        self._users: defaultdict[int, list[Operation]] = defaultdict(list)
        for operation in program.operations:
            for register in _operands(operation):
                self._users[register].append(operation)
        self._writes = Counter(each.channel for each in program.operations if isinstance(each, Write))

    def channel_taking(self, register: int) -> str | None:
        """
        The channel whose messages are the values of this register and nothing else, and which alone takes them.

        Only then may such a value lie in memory of the channel before it is sent: a ring has room for one a message.
        """
        users = self._users[register]
        if len(users) != 1 or not isinstance(write := users[0], Write) or len(write.values) != 1:
            return None
        return write.channel if self._writes[write.channel] == 1 else None

    def goes_to_the_device(self, read: Read) -> bool:
        """Whether nobody sees what is read but operations that copy it to the device."""
        users = [user for register in read.into for user in self._users[register]]
        return all(isinstance(user, Copy) and user.device != "cpu" for user in users)


def _operands(operation: Operation) -> set[int]:
    if isinstance(operation, Call):
        arguments = [*operation.args, *(argument for _, argument in operation.kwargs)]
        return {register for argument in arguments for register in registers_of(argument)}
    if isinstance(operation, Group):
        return {register for part in operation.operations for register in _operands(part)}
    if isinstance(operation, Copy | Wait):
        return {operation.value}
    if isinstance(operation, Write | Collective):
        return set(operation.values)
    return {*operation.values, *operation.effects} if isinstance(operation, Output) else set()
