"""Each rule of programs and channels, kept and broken on purpose: what is said, and at which operation and location."""

from __future__ import annotations

import re

import pytest

from cgc.errors import IRVerifyError
from cgc.ir import CallOp, InputOp, graphs_of, parse_module, verify_module
from tests.ir.broken import ACTORS, AT, CALL, INPUT, assert_is_refused, in_programs

SEND = "cgc.send %0 message 0 to [@a] via shm order 0"
RECV = "%1 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object"
C0 = "cgc.channel @c0 shm from @driver to [@a] slots 1 slot_bytes 8"
WRITE = "cgc.write @c0(%0) messages [0] order 0"
READ = "%1 = cgc.read @c0 messages [0] order 1 : !cgc.object"

CALL_B = "%1 = cgc.call @b::@f() : !cgc.object"
GROUP_A = (
    "%3 = cgc.group {",
    "cgc.send %1 message 1 to [@b] via nccl order 4",
    "%2 = cgc.recv message 2 from @b via nccl order 4 : !cgc.object",
    "cgc.yield(%2)",
    "}",
)
GROUP_B = (
    "%3 = cgc.group {",
    "%2 = cgc.recv message 1 from @a via nccl order 4 : !cgc.object",
    "cgc.send %1 message 2 to [@a] via nccl order 4",
    "cgc.yield(%2)",
    "}",
)
CROSSING_CHANNELS = tuple(
    f"cgc.channel @c{number} nccl from @{writer} to [@{reader}] slots 1 slot_bytes 8"
    for number, writer, reader in ((1, "a", "b"), (2, "b", "a"))
)


def on_channels(line):
    """A line of a group at level `allocated`."""
    line = re.sub(r"cgc\.send (%\d) message (\d) to \S+ via nccl", r"cgc.write @c\2(\1) messages [\2]", line)
    return re.sub(r"cgc\.recv message (\d) from \S+ via nccl", r"cgc.read @c\1 messages [\1]", line)


def changed(lines, old, new):
    assert any(old in line for line in lines)
    return tuple(line.replace(old, new) for line in lines)


VALID = {
    "one send": in_programs("scheduled", driver=(INPUT, SEND, "cgc.output %0"), a=(RECV,)),
    "one channel": in_programs("allocated", channels=(C0,), driver=(INPUT, WRITE, "cgc.output %0"), a=(READ,)),
    "crossing in a group": in_programs("scheduled", a=(CALL, *GROUP_A), b=(CALL_B, *GROUP_B)),
    "crossing in a group, on channels": in_programs(
        "allocated",
        channels=CROSSING_CHANNELS,
        a=(CALL, *(on_channels(line) for line in GROUP_A)),
        b=(CALL_B, *(on_channels(line) for line in GROUP_B)),
    ),
    "collective": in_programs(
        "scheduled",
        a=(CALL, "%2 = cgc.allreduce sum(%1) on [@a, @b] via nccl message 3 order 1 : !cgc.object"),
        b=(
            "%1 = cgc.call @b::@f() : !cgc.object",
            "%2 = cgc.allreduce sum(%1) on [@a, @b] via nccl message 3 order 1 : !cgc.object",
        ),
    ),
    "started read": in_programs(
        "allocated",
        channels=(C0,),
        driver=(INPUT, WRITE, "cgc.output %0"),
        a=("%1 = cgc.read_start @c0 messages [0] order 1 : !cgc.future<!cgc.object>", "%2 = cgc.wait %1"),
    ),
}


@pytest.mark.parametrize("case", VALID)
def test_valid(case):
    verify_module(parse_module(VALID[case]))


INVALID = {
    "program missing": (
        f"cgc.graph @g level = scheduled {{\n{ACTORS}}}",
        "cgc.actor",
        "@driver has no program",
    ),
    "two programs": (
        in_programs("scheduled").replace("@b {", "@a {"),
        "cgc.program",
        "@a has two programs",
    ),
    "foreign call": (
        in_programs("scheduled", b=(CALL + AT,)),
        "cgc.call",
        "error: stages.py:13: cgc.call: belongs to @a, but is in the program of @b",
    ),
    "output of an actor": (
        in_programs("scheduled", a=(CALL, "cgc.output %1")),
        "cgc.output",
        "not allowed in a program of an actor at this level",
    ),
    "never received": (
        in_programs("scheduled", driver=(INPUT, SEND + AT, "cgc.output %0")),
        "cgc.send",
        "error: stages.py:13: cgc.send: @a never receives message 0",
    ),
    "never sent": (in_programs("scheduled", a=(RECV,)), "cgc.recv", "nobody sends message 0"),
    "sent twice": (
        in_programs("scheduled", driver=(INPUT, SEND, SEND.replace("order 0", "order 1"), "cgc.output %0"), a=(RECV,)),
        "cgc.send",
        "message 0 is sent twice",
    ),
    "received twice": (
        in_programs(
            "scheduled",
            driver=(INPUT, SEND, "cgc.output %0"),
            a=(RECV, RECV.replace("%1", "%2").replace("order 1", "order 2")),
        ),
        "cgc.recv",
        "@a receives message 0 twice",
    ),
    "received by another": (
        in_programs("scheduled", driver=(INPUT, SEND, "cgc.output %0"), b=(RECV,)),
        "cgc.recv",
        "message 0 is not sent to @b",
    ),
    "another sender": (
        in_programs("scheduled", driver=(INPUT, SEND, "cgc.output %0"), a=(RECV.replace("@driver", "@b"),)),
        "cgc.recv",
        "message 0 is from @driver, not from @b",
    ),
    "another transport": (
        in_programs("scheduled", driver=(INPUT, SEND, "cgc.output %0"), a=(RECV.replace("shm", "tcp"),)),
        "cgc.recv",
        "message 0 is sent via shm",
    ),
    "received before it is sent": (
        in_programs("scheduled", driver=(INPUT, SEND.replace("order 0", "order 5"), "cgc.output %0"), a=(RECV,)),
        "cgc.recv",
        "order 1 is before that of the send, 5",
    ),
    "rendezvous at two places": (
        in_programs(
            "scheduled",
            a=(CALL, "cgc.send %1 message 1 to [@b] via nccl order 4"),
            b=("%1 = cgc.recv message 1 from @a via nccl order 5 : !cgc.object",),
        ),
        "cgc.recv",
        "order 5 is not that of the send, 4, with which it completes",
    ),
    "broadcast at two places": (
        in_programs(
            "scheduled",
            driver=("%0 = cgc.recv message 1 from @a via nccl order 5 : !cgc.object", "cgc.output %0"),
            a=(CALL, "cgc.send %1 message 1 to [@b, @driver] via nccl order 4"),
            b=("%1 = cgc.recv message 1 from @a via nccl order 4 : !cgc.object",),
        ),
        "cgc.recv",
        "order 5 is not that of the send, 4, with which it completes",
    ),
    "rendezvous with two": (
        in_programs("scheduled", a=(CALL, 'cgc.send %1 message 1 to [@b, @driver] via custom<0, "mine"> order 4')),
        "cgc.send",
        "custom has exactly one receiver per send",
    ),
    "orders fall": (
        in_programs(
            "scheduled",
            a=(CALL, "cgc.send %1 message 1 to [@b] via shm order 4", "cgc.send %1 message 2 to [@b] via shm order 4"),
        ),
        "cgc.send",
        "order 4 does not rise: it follows order 4",
    ),
    "driver sends late": (
        in_programs(
            "scheduled",
            driver=(
                INPUT,
                "%1 = cgc.recv message 1 from @a via shm order 2 : !cgc.object",
                "cgc.send %0 message 0 to [@a] via shm order 3",
                "cgc.output %1",
            ),
            a=(CALL, "cgc.send %1 message 1 to [@driver] via shm order 1"),
        ),
        "cgc.send",
        "the driver sends before it receives",
    ),
    "never waited for": (
        in_programs(
            "scheduled", b=("%1 = cgc.recv_start message 0 from @a via shm order 1 : !cgc.future<!cgc.object>",)
        ),
        "cgc.recv_start",
        "what it starts must be waited for exactly once",
    ),
    "call in a group": (
        in_programs("scheduled", a=("cgc.group {", "cgc.call @a::@f()", "cgc.yield()", "}")),
        "cgc.call",
        "not allowed in a group, which holds sends and recvs only",
    ),
    "group at one end": (
        in_programs(
            "scheduled",
            a=(CALL, *GROUP_A),
            b=(CALL_B, GROUP_B[1] + AT, changed(GROUP_B, "order 4", "order 5")[2]),
        ),
        "cgc.recv",
        "error: stages.py:13: cgc.recv: message 1 is in no group here, and in a group of messages [1, 2] at its other",
    ),
    "groups of other messages": (
        in_programs("scheduled", a=(CALL, *GROUP_A), b=(CALL_B, GROUP_B[0], GROUP_B[2], GROUP_B[1], *GROUP_B[3:])),
        "cgc.send",
        "message 2 is in a group of messages [2, 1] here, and in a group of messages [1, 2] at its other end",
    ),
    "group at two places": (
        in_programs("scheduled", a=(CALL, GROUP_A[0], GROUP_A[1], *changed(GROUP_A[2:], "order 4", "order 5"))),
        "cgc.recv",
        "order 5 is not that of its group, 4",
    ),
    "group that sends what it receives": (
        in_programs(
            "scheduled",
            a=(GROUP_A[0], GROUP_A[2], "cgc.send %2 message 1 to [@b] via nccl order 4", "cgc.yield(%2)", "}"),
        ),
        "cgc.send",
        "operand 0 is not defined before it in this program",
    ),
    "group that yields what it has not received": (
        in_programs("scheduled", a=(CALL, *changed(GROUP_A, "yield(%2)", "yield(%1)"))),
        "cgc.yield",
        "a group yields what it receives, and nothing else",
    ),
    "recv in two halves in a group": (
        in_programs(
            "scheduled",
            b=(
                "%h = cgc.group {",
                "%r = cgc.recv_start message 1 from @a via nccl order 4 stream 1 : !cgc.future<!cgc.object>",
                "cgc.yield(%r)",
                "}",
                "%v = cgc.wait %h",
            ),
        ),
        "cgc.recv_start",
        "not allowed in a group, which holds sends and recvs only",
    ),
    "stream in a group": (
        in_programs(
            "scheduled", a=(CALL, *changed(GROUP_A, "to [@b] via nccl order 4", "to [@b] via nccl order 4 stream 1"))
        ),
        "cgc.send",
        "on a stream, but in a group, which is a step of its program",
    ),
    "buffered message in a group": (
        in_programs("scheduled", a=(CALL, *changed(GROUP_A, "nccl", "shm"))),
        "cgc.send",
        "in a group, but shm has none: only gloo, nccl have",
    ),
    "user's communicator in a group": (
        in_programs(
            "allocated",
            channels=changed(CROSSING_CHANNELS, "nccl", 'custom<0, "mine">'),
            a=(CALL, *(on_channels(line) for line in GROUP_A)),
            b=(CALL_B, *(on_channels(line) for line in GROUP_B)),
        ),
        "cgc.write",
        "in a group, but custom has none: only gloo, nccl have",
    ),
    "collective request": (
        VALID["collective"].replace("via nccl", "via accelerator"),
        "cgc.allreduce",
        "transport 'accelerator' is still a request",
    ),
    "collective with too few": (
        in_programs(
            "scheduled", a=(CALL, "%2 = cgc.allreduce sum(%1) on [@a, @b] via nccl message 3 order 1 : !cgc.object")
        ),
        "cgc.allreduce",
        "participant @b has no cgc.allreduce for message 3",
    ),
    "collective that differs": (
        VALID["collective"].replace("sum(%1)", "max(%1)", 1),
        "cgc.allreduce",
        "the participants of message 3 do not agree on what it is",
    ),
    "collective at two places": (
        VALID["collective"].replace("order 1", "order 2", 1),
        "cgc.allreduce",
        "the participants of message 3 do not agree on what it is",
    ),
    # Channels
    "unknown channel": (
        in_programs("allocated", driver=(INPUT, WRITE, "cgc.output %0")),
        "cgc.write",
        "there is no channel @c0",
    ),
    "not the writer": (
        in_programs("allocated", channels=(C0,), a=(CALL, WRITE.replace("%0", "%1"))),
        "cgc.write",
        "@c0 is written by @driver",
    ),
    "not a reader": (
        in_programs("allocated", channels=(C0,), driver=(INPUT, WRITE, "cgc.output %0"), b=(READ,)),
        "cgc.read",
        "@b is no reader of @c0",
    ),
    "not read": (
        in_programs("allocated", channels=(C0,), driver=(INPUT, WRITE, "cgc.output %0")),
        "cgc.channel",
        "@c0 carries 1 messages, but @a reads 0",
    ),
    "never written": (in_programs("allocated", channels=(C0,)), "cgc.channel", "@driver never writes @c0"),
    "read in another order": (
        in_programs(
            "allocated",
            channels=(C0,),
            driver=(INPUT, WRITE, WRITE.replace("[0] order 0", "[1] order 1"), "cgc.output %0"),
            a=(
                "%1 = cgc.read @c0 messages [1] order 2 : !cgc.object",
                "%2 = cgc.read @c0 messages [0] order 3 : !cgc.object",
            ),
        ),
        "cgc.read",
        "@a expects messages [1], but the next write is [0]",
    ),
    "values and ids": (
        in_programs(
            "allocated",
            channels=(C0,),
            driver=(INPUT, "cgc.write @c0(%0, %0) messages [0] order 0", "cgc.output %0"),
        ),
        "cgc.write",
        "2 values, but 1 message ids",
    ),
    "no slot": (
        in_programs("allocated", channels=(C0.replace("slots 1", "slots 0"),)),
        "cgc.channel",
        "a channel has at least one slot",
    ),
    "send after allocation": (
        in_programs("allocated", driver=(INPUT, SEND, "cgc.output %0"), a=(RECV,)),
        "cgc.send",
        "not allowed in a program of the driver at this level",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid(case):
    assert_is_refused(*INVALID[case])


def test_values_of_another_program():
    """Text cannot say it; a pass could do it."""
    module = parse_module(VALID["one send"])
    foreign = next(op for op in module.walk() if isinstance(op, InputOp)).result
    send = next(op for op in module.walk() if op.name == "cgc.recv")
    send.parent.add_op(CallOp("a", "f", [foreign]))
    with pytest.raises(IRVerifyError, match="error"):
        verify_module(module)


def test_verification_changes_nothing():
    module = parse_module(VALID["collective"])
    graph = next(graphs_of(module))
    before = str(graph)
    verify_module(module)
    assert str(graph) == before
