"""The simulator: times by hand on small schedules, blocking semantics, and counterexamples of deadlocks."""

import pytest

from cgc.passes.analysis.deadlock import deadlock_error
from cgc.passes.analysis.schedule import RENDEZVOUS, Channel, Kind, Process, Schedule, Step
from cgc.passes.analysis.simulate import simulate


def _compute(label, us):
    return Step(Kind.COMPUTE, label, us=us)


def _write(channel, message=-1):
    return Step(Kind.WRITE, f"write c{channel}", (channel,), message=message)


def _read(channel):
    return Step(Kind.READ, f"read c{channel}", (channel,))


def _meet(label, *channels):
    return Step(Kind.MEET, label, channels, location=f"stages.py:{channels[0]}")


def test_times_of_a_chain():
    channel = Channel("c0", 0, (1,), slots=1, write_us=2, latency_us=3, read_us=4)
    schedule = Schedule(
        [Process("@a", [_compute("f", 10), _write(0)]), Process("@b", [_read(0), _compute("g", 20)])], [channel]
    )
    result = simulate(schedule)
    assert result.ends == [[10, 12], [19, 39]]
    assert result.starts == [[0, 10], [15, 19]]
    assert (result.makespan, result.busy(1)) == (39, 24)


def test_executions_overlap_as_far_as_slots_allow():
    def makespan(slots):
        schedule = Schedule(
            [Process("@a", [_compute("f", 10), _write(0)]), Process("@b", [_compute("g", 30), _read(0)])],
            [Channel("c0", 0, (1,), slots)],
        )
        return simulate(schedule, executions=3).ends[0]

    assert makespan(slots=3) == [10, 10, 20, 20, 30, 30]
    assert makespan(slots=1) == [10, 10, 20, 30, 40, 60]


def test_both_ends_of_a_rendezvous_end_together():
    schedule = Schedule(
        [Process("@a", [_meet("send", 0), _compute("f", 5)]), Process("@b", [_compute("g", 7), _meet("recv", 0)])],
        [Channel("m0", 0, (1,), RENDEZVOUS, write_us=2)],
    )
    result = simulate(schedule)
    assert result.ends == [[9, 14], [7, 9]]
    assert result.busy(0) == 7, "waiting for the other party is not work"


def test_streams_overlap_with_calls():
    """A recv that is posted early runs beside a call; `after` says what waits for what."""
    main = [
        _compute("recv_start", 0),
        _compute("f", 10),
        Step(Kind.COMPUTE, "wait", after=((1, 0),)),
        _compute("g", 10),
    ]
    stream = [Step(Kind.READ, "recv", (0,), after=((0, 0),))]
    schedule = Schedule(
        [Process("@a", main), Process("@a/recv", stream), Process("@b", [_write(0)])],
        [Channel("c0", 2, (1,), slots=1, write_us=1, latency_us=1, read_us=6)],
    )
    result = simulate(schedule, executions=2)
    assert result.stuck == []
    assert result.ends[0] == [0, 10, 10, 20, 20, 30, 30, 40]


def test_gates_hold_the_driver_at_its_in_flight_limit():
    schedule = Schedule(
        [
            Process("@driver/execute", [_write(0)], gates=((1, -2),)),
            Process("@driver/get", [_read(1)], gates=((0, 1),)),
            Process("@a", [_read(0), _compute("f", 10), _write(1)]),
        ],
        [Channel("c0", 0, (2,), slots=2), Channel("c1", 2, (1,), slots=2)],
    )
    result = simulate(schedule, executions=4)
    assert result.stuck == []
    assert result.ends[0] == [0, 0, 10, 20]


def test_crossing_rendezvous_is_a_deadlock_with_both_sides_named():
    schedule = Schedule(
        [
            Process("@a", [_compute("f", 1), _meet("send m0 to @b", 0), _meet("recv m1 from @b", 1)]),
            Process("@b", [_compute("f", 1), _meet("send m1 to @a", 1), _meet("recv m0 from @a", 0)]),
        ],
        [Channel("m0", 0, (1,), RENDEZVOUS), Channel("m1", 1, (0,), RENDEZVOUS)],
    )
    error = deadlock_error(simulate(schedule))
    assert str(error) == (
        "deadlock: 2 actors wait for one another in execution 0\n"
        "  @a  step 1: send m0 to @b (stages.py:0) waits for @b to come to m0\n"
        "  @b  step 1: send m1 to @a (stages.py:1) waits for @a to come to m1\n"
        "step  @a                  @b\n"
        "   0  C f                 C f\n"
        "   1  M send m0 to @b <<  M send m1 to @a <<\n"
        "   2  M recv m1 from @b   M recv m0 from @a"
    )
    assert len(error.cycle) == 2


def test_the_same_crossing_in_a_group_is_none():
    schedule = Schedule(
        [Process("@a", [_meet("group", 0, 1)]), Process("@b", [_meet("group", 1, 0)])],
        [Channel("m0", 0, (1,), RENDEZVOUS, write_us=3), Channel("m1", 1, (0,), RENDEZVOUS, write_us=5)],
    )
    result = simulate(schedule, executions=2)
    assert deadlock_error(result) is None
    assert result.ends == [[5, 10], [5, 10]]


def test_buffers_make_the_crossing_harmless_until_they_are_full():
    def error(writes):
        schedule = Schedule(
            [
                Process("@a", [_write(0)] * writes + [_read(1)] * writes),
                Process("@b", [_write(1)] * writes + [_read(0)] * writes),
            ],
            [Channel("c0", 0, (1,), slots=2), Channel("c1", 1, (0,), slots=2)],
        )
        return deadlock_error(simulate(schedule))

    assert error(writes=2) is None
    assert "waits for @b to free one of 2 slots of c0" in str(error(writes=3))


def test_a_deadlock_that_only_pipelining_shows():
    """The first execution ends; the second cannot, because a reader is an execution behind."""
    schedule = Schedule(
        [
            Process("@a", [_write(0), _read(1)], gates=()),
            Process("@b", [_read(0), _write(1)], gates=((2, 0),)),
            Process("@c", [_compute("h", 1)], gates=((0, 1),)),
        ],
        [Channel("c0", 0, (1,), slots=1), Channel("c1", 1, (0,), slots=1)],
    )
    assert deadlock_error(simulate(schedule, executions=1)) is not None
    assert "to end execution" in str(deadlock_error(simulate(schedule, executions=3)))


def test_a_message_that_nobody_sends():
    schedule = Schedule([Process("@a", []), Process("@b", [_read(0)])], [Channel("c0", 0, (1,), slots=1)])
    error = deadlock_error(simulate(schedule))
    assert "1 operation can never complete" in str(error)
    assert "@b  step 0: read c0 waits for @a to write c0, which has ended" in str(error)


@pytest.mark.parametrize("parties", [3, 4])
def test_the_cycle_that_is_shown_is_a_shortest_one(parties):
    """A ring of sends, and a bystander that waits for the ring but is no part of it."""
    processes = [
        Process(f"@p{i}", [_meet(f"send {i}", i), _meet(f"recv {(i - 1) % parties}", (i - 1) % parties)])
        for i in range(parties)
    ]
    channels = [Channel(f"m{i}", i, ((i + 1) % parties,), RENDEZVOUS) for i in range(parties)]
    processes.append(Process("@bystander", [_read(parties)]))
    processes[0].steps.append(_write(parties))
    channels.append(Channel("late", 0, (parties,), slots=1))
    error = deadlock_error(simulate(Schedule(processes, channels)))
    assert len(error.cycle) == parties
    assert "bystander" not in str(error)
