"""Programs that were edited by hand: what deadlocks is refused with a counterexample, what does not is accepted."""

import pytest

from cgc.dump import main
from cgc.errors import CgcError, DeadlockError, IRVerifyError
from cgc.ir import Unit, parse_module
from cgc.passes.manager import PassManager
from cgc.passes.verify_schedule import VerifySchedulePass

GRAPH = """
cgc.graph @crossing level = scheduled, max_inflight = {inflight} {{
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.program @driver {{
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a, @b] via shm order 0
    %1 = cgc.recv message 3 from @a via shm order 20 : !cgc.object
    %2 = cgc.recv message 4 from @b via shm order 21 : !cgc.object
    cgc.output [%1, %2]
  }}
  cgc.program @a {{
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    {a}
    cgc.send %3 message 3 to [@driver] via shm order 10
  }}
  cgc.program @b {{
    %0 = cgc.recv message 0 from @driver via shm order 2 : !cgc.object
    {b}
    cgc.send %3 message 4 to [@driver] via shm order 11
  }}
}}
"""

SEND_A = 'cgc.send %0 message 1 to [@b] via {via} order {order} loc("stages.py":12:0)'
RECV_A = '%3 = cgc.recv message 2 from @b via {via} order {order} : !cgc.object loc("stages.py":13:0)'
SEND_B = 'cgc.send %0 message 2 to [@a] via {via} order {order} loc("stages.py":14:0)'
RECV_B = '%3 = cgc.recv message 1 from @a via {via} order {order} : !cgc.object loc("stages.py":15:0)'


def _run(a, b, *, via, verify=False, inflight=10):
    """Compile a crossing with these lines; orders are given along each program, right or not."""
    first, second = (
        "\n    ".join(line.format(via=via, order=place) for place, line in enumerate(lines, start=3))
        for lines in (a, b)
    )
    unit = Unit(parse_module(GRAPH.format(a=first, b=second, inflight=inflight)))
    return PassManager([VerifySchedulePass()], verify_each=verify).run(unit)


@pytest.mark.parametrize("verify", [False, True])
def test_a_swapped_pair_on_a_communicator_is_refused_with_the_cycle(verify):
    with pytest.raises(DeadlockError) as caught:
        _run([SEND_A, RECV_A], [SEND_B, RECV_B], via="gloo", verify=verify)
    assert str(caught.value) == (
        "deadlock: 2 actors wait for one another in execution 0\n"
        "  @a  step 1: send m1 to @b (stages.py:12) waits for @b to come to m1\n"
        "  @b  step 1: send m2 to @a (stages.py:14) waits for @a to come to m2\n"
        "step  @a                    @b\n"
        "   0  R recv m0 from @driver  R recv m0 from @driver\n".replace(
            "@a                    @b", "@a                      @b"
        )
        + "   1  M send m1 to @b <<      M send m2 to @a <<\n"
        "   2  M recv m2 from @b       M recv m1 from @a\n"
        "   3  W send m3 to @driver    W send m4 to @driver"
    )
    assert len(caught.value.cycle) == 2
    assert caught.value.grid.startswith("step")


def test_both_receiving_first_deadlocks_through_buffers_too():
    with pytest.raises(DeadlockError, match="recv m2 from @b") as caught:
        _run([RECV_A, SEND_A], [RECV_B, SEND_B], via="shm")
    assert "waits for @b to write m2" in str(caught.value)


@pytest.mark.parametrize(("via", "b"), [("shm", [SEND_B, RECV_B]), ("gloo", [RECV_B, SEND_B])])
def test_what_does_not_deadlock_is_accepted(via, b):
    statistics = _run([SEND_A, RECV_A], b, via=via).records[0].statistics
    assert statistics["simulated-executions"] >= 2


def test_the_verifier_speaks_if_the_schedule_does_not_deadlock():
    """A recv with a smaller order than its send is an error of the IR, though these programs would run."""
    text = ALLOCATED.format(slots=2, inflight=2).replace("messages [1] order 2", "messages [1] order 5")
    with pytest.raises(IRVerifyError, match="order 3 is before that of the send, 5"):
        PassManager([VerifySchedulePass()]).run(Unit(parse_module(text)))


ALLOCATED = """
cgc.graph @g level = allocated, max_inflight = {inflight} {{
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.channel @c0 shm from @driver to [@a] slots {slots} slot_bytes 64
  cgc.channel @c1 shm from @a to [@driver] slots {slots} slot_bytes 64
  cgc.program @driver {{
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1 = cgc.read @c1 messages [1] order 3 : !cgc.object
    cgc.output %1
  }}
  cgc.program @a {{
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a::@f(%0) : !cgc.object
    cgc.write @c1(%1) messages [1] order 2
  }}
}}
"""


@pytest.mark.parametrize(("slots", "inflight"), [(1, 1), (1, 2), (2, 2), (10, 10), (2, 4)])
def test_slots_that_suffice_for_the_executions_in_flight(slots, inflight):
    PassManager([VerifySchedulePass()]).run(Unit(parse_module(ALLOCATED.format(slots=slots, inflight=inflight))))


@pytest.mark.parametrize(("slots", "inflight"), [(1, 5), (2, 10)])
def test_too_few_slots_for_the_executions_in_flight(slots, inflight):
    """The driver writes its fourth input before it reads a result: the ring is full and nobody empties it."""
    unit = Unit(parse_module(ALLOCATED.format(slots=slots, inflight=inflight)))
    with pytest.raises(DeadlockError, match=r"waits for @a to free one of \d slots? of @c0"):
        PassManager([VerifySchedulePass()]).run(unit)


def test_a_message_that_nobody_sends_is_an_error_and_no_crash():
    text = ALLOCATED.format(slots=2, inflight=2).replace("cgc.write @c0(%0) messages [0] order 0", "")
    with pytest.raises(CgcError, match="c0"):
        PassManager([VerifySchedulePass()]).run(Unit(parse_module(text)))


def test_the_command_refuses_an_edited_file_with_the_cycle(tmp_path, capsys):
    """What a user does: write the IR to a file, swap two lines, ask for a proof."""
    path = tmp_path / "crossing.mlir"
    pairs = [(SEND_A, RECV_A), (SEND_B, RECV_B)]
    a, b = ("\n    ".join(line.format(via="nccl", order=n) for n, line in enumerate(pair, start=3)) for pair in pairs)
    path.write_text(GRAPH.format(a=a, b=b, inflight=10))
    assert main([str(path), "--pass", "verify-schedule"]) == 1
    output, errors = capsys.readouterr()
    assert output == ""
    head, first, second, *grid = errors.splitlines()
    assert "deadlock: 2 actors wait for one another in execution 0" in head
    assert first == "  @a  step 1: send m1 to @b (stages.py:12) waits for @b to come to m1"
    assert second == "  @b  step 1: send m2 to @a (stages.py:14) waits for @a to come to m2"
    assert grid[0].startswith("step")
