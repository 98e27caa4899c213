"""The order of Ray's scheduler: as it would be, and valid; with streams, a line again."""

import random

import pytest

from cgc.passes.analysis.bind_order import bind_order, overlapped_bind_order
from cgc.passes.analysis.events import Clock, EventKind, Message, Task
from cgc.passes.analysis.order import timed_order

FIRST, SECOND, SINK = range(3)


def spelled(line):
    """`C0 S1 R1` for the events of a line."""
    return " ".join(f"{event.kind.value}{event.index}" for event in line)


def late_and_early():
    """Two calls of `SINK`: the first takes what `FIRST` makes late, the second what `SECOND` makes early."""
    tasks = [*[Task((FIRST,), 40)] * 3, Task((SECOND,), 10), Task((SINK,), 5), Task((SINK,), 5)]
    messages = [
        Message(source=2, sender=FIRST, receivers=((SINK, 4),), meets=False, send_us=1, recv_us=20),
        Message(source=3, sender=SECOND, receivers=((SINK, 5),), meets=False, send_us=1, recv_us=20),
    ]
    return tasks, messages


def test_messages_for_later_calls_are_taken_while_the_actor_waits():
    tasks, messages = late_and_early()
    line, makespan = bind_order(3, tasks, messages)
    assert spelled(line) == "C0 C3 S1 C1 R1 C2 S0 R0 C4 C5"
    assert makespan == 120 + 1 + 20 + 5 + 5


def test_the_shorter_of_the_orders_is_taken():
    tasks, messages = late_and_early()
    line, makespan = timed_order(3, tasks, messages)
    assert makespan == bind_order(3, tasks, messages)[1]
    clock = Clock(3, tasks, messages)
    for event in line:
        clock.advance(event)
    assert clock.makespan == makespan


def test_ends_that_meet_come_first():
    tasks = [Task((FIRST,), 1), Task((FIRST,), 1), Task((SECOND,), 1)]
    messages = [Message(source=0, sender=FIRST, receivers=((SECOND, 2),), meets=True, send_us=7)]
    line, makespan = bind_order(2, tasks, messages)
    assert spelled(line) == "C0 M0 C2 C1"
    assert makespan == 1 + 7 + 1


def test_a_call_takes_all_that_it_needs_before_the_meeting_that_it_waited_for():
    tasks = [Task((FIRST,), 1), Task((FIRST,), 1), Task((SECOND,), 1)]
    messages = [
        Message(source=0, sender=FIRST, receivers=((SECOND, 2),), meets=False),
        Message(source=1, sender=FIRST, receivers=((SECOND, 2),), meets=True),
    ]
    assert spelled(bind_order(2, tasks, messages)[0]) == "C0 S0 C1 R0 M1 C2"


def test_values_of_the_same_actor_are_waited_for():
    tasks = [Task((SECOND,), 1), Task((FIRST,), 50), Task((SECOND,), 1, needs=(0,))]
    messages = [Message(source=1, sender=FIRST, receivers=((SECOND, 2),), meets=False)]
    assert spelled(bind_order(2, tasks, messages)[0]) == "C0 C1 S0 R0 C2"


def test_on_streams_a_meeting_is_issued_before_the_call_that_runs_then():
    tasks = [Task((FIRST,), 10), Task((SECOND,), 50), Task((SECOND,), 1)]
    messages = [Message(source=0, sender=FIRST, receivers=((SECOND, 2),), meets=True, send_us=20, nbytes=64)]
    found = overlapped_bind_order(2, tasks, messages)
    assert spelled(found.line) == "C0 M0 C1 C2"
    assert found.peak_bytes == [0, 64]


@pytest.mark.parametrize("seed", range(200))
def test_lines_are_valid(seed):
    """Everything once, what makes a value before what moves it, that before what uses it, calls as they were bound."""
    rng = random.Random(seed)
    actors = rng.randint(1, 5)
    tasks, messages = [], []
    for index in range(rng.randint(1, 25)):
        group = tuple(rng.sample(range(actors), rng.choice([1, 1, 1, min(2, actors)])))
        sources = rng.sample(range(index), min(index, rng.randint(0, 3)))
        needs = tuple(source for source in sources if set(tasks[source].actors) & set(group))
        tasks.append(Task(group, rng.choice([0, 1, 10]), needs))
        for source in set(sources) - set(needs):
            ends = tasks[source].actors[0], ((group[0], index),)
            times = rng.choice([0, 1, 30]), rng.choice([0, 5]), rng.choice([0, 2])
            messages.append(Message(source, *ends, rng.random() < 0.5, 8, *times))
    for line in (bind_order(actors, tasks, messages)[0], overlapped_bind_order(actors, tasks, messages).line):
        place = {
            (event.kind, event.index, event.actor if event.kind is EventKind.RECV else -1): n
            for n, event in enumerate(line)
        }
        assert len(place) == len(line) == len(tasks) + sum(1 if message.meets else 2 for message in messages)
        made = [place[EventKind.TASK, index, -1] for index in range(len(tasks))]
        for actor in range(actors):
            mine = [made[index] for index, task in enumerate(tasks) if actor in task.actors]
            assert mine == sorted(mine)
        for number, message in enumerate(messages):
            ((receiver, user),) = message.receivers
            moved = place[EventKind.MEET if message.meets else EventKind.SEND, number, -1]
            taken = moved if message.meets else place[EventKind.RECV, number, receiver]
            assert made[message.source] < moved <= taken < made[user]
