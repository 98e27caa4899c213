"""Orders with meetings on streams: the bound on what receivers hold."""

import math

from cgc.passes.analysis.events import EventKind, Message, Task
from cgc.passes.analysis.overlap import overlapped_order

SENDER, FIRST, SECOND = range(3)


def crossed():
    """A broadcast that FIRST needs at once, and SECOND only after a call that needs what FIRST makes of it."""
    tasks = [Task((SENDER,), 1), Task((FIRST,), 1), Task((SECOND,), 1), Task((SECOND,), 1)]
    messages = [
        Message(source=0, sender=SENDER, receivers=((FIRST, 1), (SECOND, 3)), meets=True, nbytes=100, send_us=5),
        Message(source=1, sender=FIRST, receivers=((SECOND, 2),), meets=True, nbytes=10, send_us=5),
    ]
    return 3, tasks, messages


def test_a_broadcast_goes_when_one_receiver_needs_it_though_another_has_no_room():
    found = overlapped_order(*crossed(), budget=1)
    line = [(event.kind, event.index) for event in found.line]
    assert line.index((EventKind.MEET, 0)) < line.index((EventKind.TASK, 1)) < line.index((EventKind.MEET, 1))
    assert found.peak_bytes == [0, 100, 110]


def test_without_a_bound_the_order_is_the_same_here():
    assert overlapped_order(*crossed(), budget=1).line == overlapped_order(*crossed(), budget=math.inf).line
