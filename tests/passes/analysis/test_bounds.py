"""The bounds by hand, and that no order of a random graph beats them."""

from hypothesis import given, settings
from hypothesis import strategies as st

from cgc.passes.analysis.bounds import lower_bound
from cgc.passes.analysis.events import EventKind, Message, Task
from cgc.passes.analysis.order import global_order


def test_longest_path():
    tasks = [Task((0,), 10), Task((1,), 20)]
    assert lower_bound(2, tasks, [Message(0, 0, ((1, 1),), meets=True, send_us=5)]) == 35


def test_busiest_actor():
    assert lower_bound(2, [Task((0,), 10), Task((0,), 20), Task((1,), 5)], []) == 30


def test_messages_of_one_call_leave_one_after_the_other():
    tasks = [Task((0,), 10), *(Task((actor,), 1) for actor in (1, 2, 3))]
    messages = [Message(0, 0, ((actor, actor),), meets=True, send_us=5) for actor in (1, 2, 3)]
    assert lower_bound(4, tasks, messages) == 10 + 3 * 5 + 1


def test_messages_for_one_call_come_one_after_the_other():
    tasks = [*(Task((actor,), 10) for actor in (1, 2, 3)), Task((0,), 1)]
    messages = [Message(source, source + 1, ((0, 3),), meets=True, send_us=5) for source in range(3)]
    assert lower_bound(4, tasks, messages) == 10 + 3 * 5 + 1


@st.composite
def _graphs(draw):
    actors = draw(st.integers(1, 4))
    tasks = [
        Task((a,), us) for a, us in draw(st.lists(st.tuples(st.integers(0, actors - 1), st.sampled_from([0, 1, 9]))))
    ]
    messages = []
    for source, task in enumerate(tasks):
        users: dict[int, int] = {}
        for user in draw(st.lists(st.integers(source + 1, source + 5), max_size=2, unique=True)):
            if user < len(tasks) and tasks[user].actors != task.actors:
                users.setdefault(tasks[user].actors[0], user)
        if users and draw(st.booleans()):
            messages.append(Message(source, task.actors[0], tuple(users.items()), meets=True, send_us=2))
        else:
            messages += [Message(source, task.actors[0], (user,), meets=True, send_us=2) for user in users.items()]
    return actors, tasks, messages


@settings(deadline=None)
@given(_graphs())
def test_no_order_is_shorter(graph):
    actors, tasks, messages = graph
    free = [0.0] * actors
    for event in global_order(actors, tasks, messages):
        if event.kind is EventKind.TASK:
            free[event.actor] += tasks[event.index].us
        else:
            message = messages[event.index]
            ends = [event.actor, *(receiver for receiver, _ in message.receivers)]
            end = max(free[actor] for actor in ends) + message.send_us
            for actor in ends:
                free[actor] = end
    assert lower_bound(actors, tasks, messages) <= max(free) + 1e-9
