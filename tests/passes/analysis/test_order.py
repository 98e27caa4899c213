"""The global order: priorities on small cases by hand, validity and freedom from deadlock on random ones."""

from hypothesis import given, settings
from hypothesis import strategies as st

from cgc.passes.analysis.deadlock import deadlock_error
from cgc.passes.analysis.events import Event, EventKind, Message, Task
from cgc.passes.analysis.order import global_order, tails
from cgc.passes.analysis.schedule import RENDEZVOUS, Channel, Kind, Process, Schedule, Step
from cgc.passes.analysis.simulate import simulate


def _text(order):
    return " ".join(f"{event.kind.value}{event.index}@{event.actor}" for event in order)


def test_chain():
    tasks = [Task((0,), 1), Task((1,), 1), Task((0,), 1)]
    messages = [Message(0, 0, ((1, 1),), meets=False), Message(1, 1, ((0, 2),), meets=False)]
    assert _text(global_order(2, tasks, messages)) == "C0@0 S0@0 R0@1 C1@1 S1@1 R1@0 C2@0"


def test_rendezvous_is_one_event():
    tasks = [Task((0,), 1), Task((1,), 1)]
    assert _text(global_order(2, tasks, [Message(0, 0, ((1, 1),), meets=True)])) == "C0@0 M0@0 C1@1"


def test_a_message_on_the_critical_path_goes_first():
    """Actor 1 has 100 µs of work behind its message, actor 2 only 1."""
    tasks = [Task((0,), 1), Task((2,), 1), Task((1,), 100)]
    messages = [Message(0, 0, ((2, 1),), meets=False), Message(0, 0, ((1, 2),), meets=False)]
    assert [e.index for e in global_order(3, tasks, messages) if e.kind is EventKind.SEND] == [1, 0]


def test_then_the_larger_message_and_then_the_one_bound_first():
    tasks = [Task((0,), 1), Task((1,), 1), Task((2,), 1), Task((3,), 1)]
    messages = [Message(0, 0, ((actor, actor),), meets=False, nbytes=size) for actor, size in ((1, 5), (2, 9), (3, 5))]
    assert [e.index for e in global_order(4, tasks, messages) if e.kind is EventKind.SEND] == [1, 0, 2]


def test_calls_of_one_actor_stay_in_bind_order_even_if_the_later_one_is_more_urgent():
    tasks = [Task((0,), 1), Task((0,), 1), Task((1,), 100)]
    order = global_order(2, tasks, [Message(1, 0, ((1, 2),), meets=False)])
    assert [e.index for e in order if e.kind is EventKind.TASK and e.actor == 0] == [0, 1]


def test_messages_are_taken_in_the_order_in_which_they_arrive():
    tasks = [Task((0,), 50), Task((1,), 1), Task((2,), 1)]
    messages = [Message(0, 0, ((2, 2),), meets=False), Message(1, 1, ((2, 2),), meets=False)]
    assert [e.index for e in global_order(3, tasks, messages) if e.kind is EventKind.RECV] == [1, 0]


def test_collectives_on_overlapping_groups_have_one_order_everywhere():
    tasks = [Task((0, 1), 1), Task((1, 2), 1), Task((2, 0), 1)]
    assert global_order(3, tasks, []) == [Event(EventKind.TASK, i, i) for i in range(3)]


def test_tails_follow_messages_and_the_order_on_actors():
    tasks = [Task((0,), 1), Task((0,), 10), Task((1,), 5)]
    messages = [Message(0, 0, ((1, 2),), meets=False, send_us=1, latency_us=2, recv_us=3)]
    assert tails(2, tasks, messages) == ([12, 10, 5], [11])


@st.composite
def _graphs(draw):
    actors = draw(st.integers(1, 6))
    groups = st.lists(st.integers(0, actors - 1), min_size=1, max_size=min(actors, 3), unique=True).map(tuple)
    tasks = [
        Task(group, us)
        for group, us in draw(st.lists(st.tuples(groups, st.sampled_from([0.0, 1.0, 50.0])), max_size=25))
    ]
    messages = []
    for source, task in enumerate(tasks):
        users = draw(st.lists(st.integers(source + 1, max(source + 1, len(tasks) - 1)), max_size=3, unique=True))
        receivers: dict[int, int] = {}
        for user in sorted(u for u in users if u < len(tasks)):
            for actor in tasks[user].actors:
                if actor != task.actors[0]:
                    receivers.setdefault(actor, user)
        size = draw(st.integers(0, 2))
        kind = draw(st.sampled_from(["buffered", "meetings", "broadcast"]))
        if kind == "meetings":
            messages += [Message(source, task.actors[0], (r,), True, size, 1, 1, 1) for r in receivers.items()]
        elif receivers:
            meets = kind == "broadcast"
            messages.append(Message(source, task.actors[0], tuple(receivers.items()), meets, size, 1, 1, 1))
    return actors, tasks, messages


def _schedule(actors, tasks, messages, order, slots):
    """The projection of the order onto the actors."""
    processes = [Process(f"@{actor}") for actor in range(actors)]
    channels = [
        Channel(f"m{i}", m.sender, tuple(a for a, _ in m.receivers), RENDEZVOUS if m.meets else slots)
        for i, m in enumerate(messages)
    ]
    collectives = {}
    for index, task in enumerate(tasks):
        if len(task.actors) > 1:
            collectives[index] = len(channels)
            channels.append(Channel(f"collective {index}", task.actors[0], task.actors[1:], RENDEZVOUS))
    kinds = {EventKind.SEND: Kind.WRITE, EventKind.RECV: Kind.READ, EventKind.MEET: Kind.MEET}
    for event in order:
        if event.kind is EventKind.TASK:
            meets = (collectives[event.index],) if event.index in collectives else ()
            step = Step(Kind.MEET if meets else Kind.COMPUTE, f"t{event.index}", meets)
            for actor in tasks[event.index].actors:
                processes[actor].steps.append(step)
            continue
        step = Step(kinds[event.kind], f"{event.kind.value}{event.index}", (event.index,))
        processes[event.actor].steps.append(step)
        if event.kind is EventKind.MEET:
            for receiver, _ in messages[event.index].receivers:
                processes[receiver].steps.append(step)
    return Schedule(processes, channels)


@settings(deadline=None, max_examples=150)
@given(_graphs())
def test_every_order_is_complete_and_its_projection_never_deadlocks(graph):
    actors, tasks, messages = graph
    order = global_order(actors, tasks, messages)
    assert sorted(e.index for e in order if e.kind is EventKind.TASK) == list(range(len(tasks)))
    taken = sum(1 if m.meets else 1 + len(m.receivers) for m in messages)
    assert len(order) == len(tasks) + taken
    for actor in range(actors):
        mine = [e.index for e in order if e.kind is EventKind.TASK and actor in tasks[e.index].actors]
        assert mine == sorted(mine), "bind order"
    for slots in (1, 3):
        result = simulate(_schedule(actors, tasks, messages, order, slots), executions=3)
        assert deadlock_error(result) is None
