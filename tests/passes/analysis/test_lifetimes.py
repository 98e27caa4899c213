"""What a sender knows of the others when it sends: from messages and collectives, and nothing from streams."""

import pytest

from cgc.ir import graphs_of, parse_module
from cgc.passes.analysis import lifetimes
from cgc.passes.analysis.lifetimes import clocks_of_sends
from cgc.passes.graph_view import programs_of

HEAD = """cgc.graph @g level = scheduled {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor on "n0"
  cgc.actor @b actor on "n0"
  cgc.actor @c actor on "n0"
"""


def clocks(**programs):
    """What the sender of each message knows; values come from calls, so that each program stands for itself."""
    text = HEAD
    for name in ("a", "b", "c"):
        lines = "\n".join(programs.get(name, ()))
        text += f"cgc.program @{name} {{\n%0 = cgc.call @{name}::@f() : !cgc.object\n{lines}\n}}\n"
    return clocks_of_sends(programs_of(next(graphs_of(parse_module(text + "}\n")))))


def send(message, to, order, via="shm", more=""):
    return f"cgc.send %0 message {message} to [@{to}] via {via} order {order}{more}"


def recv(message, sender, order, via="shm"):
    return f"%m{message} = cgc.recv message {message} from @{sender} via {via} order {order} : !cgc.object"


def test_a_receiver_learns_what_the_sender_had_done():
    found = clocks(
        a=[send(0, "b", 0), recv(1, "b", 3), send(2, "b", 4)],
        b=[recv(0, "a", 1), send(1, "a", 2), recv(2, "a", 5)],
    )
    assert found[0] == {}
    assert found[1] == {"b": 1}
    assert found[2] == {"a": 3, "b": 1}


def test_it_learns_by_way_of_others():
    programs = {
        "a": [send(0, "b", 0), recv(2, "c", 5), send(3, "b", 6)],
        "b": [recv(0, "a", 1), send(1, "c", 2), recv(3, "a", 7)],
        "c": [recv(1, "b", 3), send(2, "a", 4)],
    }
    assert clocks(**programs)[3] == {"a": 5, "b": 1, "c": 3}


def test_many_participants_learn_first_hand_only(monkeypatch):
    monkeypatch.setattr(lifetimes, "FULL_LIMIT", 2)
    test_a_receiver_learns_what_the_sender_had_done()
    with pytest.raises(AssertionError):
        test_it_learns_by_way_of_others()


def test_what_was_started_has_not_arrived():
    found = clocks(
        a=[
            "%1 = cgc.recv_start message 1 from @b via shm order 3 stream 1 : !cgc.future<!cgc.object>",
            send(2, "b", 4),
            "%2 = cgc.wait %1",
        ],
        b=[send(1, "a", 2), recv(2, "a", 5)],
    )
    assert found[2] == {"a": 3}


def test_all_participants_of_a_collective_learn_of_one_another():
    reduce = "%r = cgc.allreduce sum(%0) on [@a, @b] via gloo message 9 order 4 : !cgc.object"
    found = clocks(
        a=[send(0, "b", 0), reduce, send(1, "b", 5)],
        b=[recv(0, "a", 1), reduce, recv(1, "a", 6)],
    )
    assert found[1] == {"a": 4, "b": 1}
    assert clocks(a=[reduce.replace("order 4", "order 4 stream 1"), send(1, "b", 5)], b=[reduce])[1] == {"a": 4}


def test_what_is_grouped_teaches_nothing():
    group = "cgc.group {\n" + send(1, "a", 2) + "\ncgc.yield()\n}"
    assert clocks(a=[recv(1, "b", 3), send(2, "b", 4)], b=[group, recv(2, "a", 5)])[2] == {"a": 3}
