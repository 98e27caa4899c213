"""What progress words say."""

from __future__ import annotations

from cgc.runtime import protocol
from cgc.runtime.status import explain_lateness, read_status
from tests.runtime.helpers import chain

SECOND = 1_000_000_000


def progress(execution: int, operation: int, since: int) -> memoryview:
    words = memoryview(bytearray(64)).cast("Q")
    words[protocol.PROGRESS_EXECUTION] = execution
    words[protocol.PROGRESS_OPERATION] = operation
    words[protocol.PROGRESS_SINCE] = since
    return words


def test_each_activity():
    program = chain("echo").programs()["a0"]
    texts = [str(read_status("@a0", program, progress(3, operation, 5 * SECOND), 7 * SECOND)) for operation in range(3)]
    assert texts == [
        "@a0 is waiting in execution 2 for 2.0 s: read c0 from @driver (test.py:2)",
        "@a0 is calling in execution 2 for 2.0 s: r1 = call echo(r0)    drop r0 (test.py:2)",
        "@a0 is sending in execution 2 for 2.0 s: write c1 r1    drop r1 (test.py:1)",
    ]
    assert str(read_status("@a0", program, progress(0, 0, 0), SECOND)) == "@a0 has not begun"


def test_the_late_are_named_before_those_who_wait():
    programs = chain("echo", "echo").programs()
    waiting = read_status("@a0", programs["a0"], progress(2, 0, SECOND), 2 * SECOND)
    calling = read_status("@a1", programs["a1"], progress(1, 1, SECOND), 2 * SECOND)
    assert explain_lateness([waiting, calling]).startswith("Late: @a1 is calling")
    assert explain_lateness([waiting, calling]).endswith(f"Waiting: {waiting}.")
    assert explain_lateness([waiting]).startswith("No actor is in a call. Waiting: @a0")
