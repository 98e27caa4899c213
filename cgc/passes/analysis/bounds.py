"""
Lower bounds of the makespan, which no schedule can beat that keeps the order of the calls on each actor.

Why: a path through the graph takes as long as its calls and messages. Of the messages that an actor sends, at most one
is on its way at a time where both ends have to meet, and so for those that it receives. If all of them start out from
one call, the one with the longest rest best goes first, and even then the last has to wait for the others (Jackson's
rule, optimal for one machine). If all of them are for one call, the one that exists first best comes first.
"""

from __future__ import annotations

from cgc.passes.analysis.events import Message, Task


def lower_bound(actors: int, tasks: list[Task], messages: list[Message]) -> float:
    """Microseconds that one execution takes at least; `tasks` as for `global_order`."""
    by_source: list[list[Message]] = [[] for _ in tasks]
    by_consumer: list[list[Message]] = [[] for _ in tasks]
    for message in messages:
        by_source[message.source].append(message)
        for consumer in {consumer: None for _, consumer in message.receivers}:
            by_consumer[consumer].append(message)
    rest = _rests(actors, tasks, by_source)
    start = _starts(actors, tasks, by_consumer)
    busy = [0.0] * actors
    for task in tasks:
        for actor in task.actors:
            busy[actor] += task.us
    return max([*busy, *(head + tail for head, tail in zip(start, rest, strict=True))], default=0.0)


def _rests(actors: int, tasks: list[Task], by_source: list[list[Message]]) -> list[float]:
    """At least how long it takes from the start of each task to the end of everything."""
    rest = [0.0] * len(tasks)
    next_on_actor = [0.0] * actors
    for index in reversed(range(len(tasks))):
        task = tasks[index]
        longest = max(next_on_actor[actor] for actor in task.actors)
        behind = [(max(rest[c] for _, c in m.receivers), m) for m in by_source[index]]
        sent: dict[int, float] = {}
        for tail, message in sorted(behind, key=lambda item: -item[0]):
            if message.meets:
                sent[message.sender] = sent.get(message.sender, 0.0) + message.send_us
                longest = max(longest, sent[message.sender] + tail)
            else:
                longest = max(longest, message.send_us + message.latency_us + message.recv_us + tail)
        rest[index] = task.us + longest
        for actor in task.actors:
            next_on_actor[actor] = rest[index]
    return rest


def _starts(actors: int, tasks: list[Task], by_consumer: list[list[Message]]) -> list[float]:
    """When each task can start at the earliest."""
    start = [0.0] * len(tasks)
    free = [0.0] * actors
    for index, task in enumerate(tasks):
        earliest = max(free[actor] for actor in task.actors)
        received: dict[int, float] = {}
        for message in sorted(by_consumer[index], key=lambda m: start[m.source] + tasks[m.source].us):
            made = start[message.source] + tasks[message.source].us
            if message.meets:
                for receiver in (actor for actor, consumer in message.receivers if consumer == index):
                    received[receiver] = max(received.get(receiver, 0.0), made) + message.send_us
                    earliest = max(earliest, received[receiver])
            else:
                earliest = max(earliest, made + message.send_us + message.latency_us + message.recv_us)
        start[index] = earliest
        for actor in task.actors:
            free[actor] = earliest + task.us
    return start
