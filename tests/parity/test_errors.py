"""
Errors of methods and of values: who sees them, as which class, with which text, and what goes on afterwards.
"""

import sys
import threading

import pytest
import ray
import ray.exceptions
from ray.dag import InputNode, MultiOutputNode


def test_error_is_ray_task_error_and_the_users_class(compiled, workers, app_error):
    with InputNode() as inp:
        dag = workers[0].raise_error.bind(inp, 7)
    graph = compiled(dag)
    with pytest.raises(app_error, match="refused 'x'") as caught:
        ray.get(graph.execute("x"))
    error = caught.value
    assert isinstance(error, ray.exceptions.RayTaskError)
    assert isinstance(error.cause, app_error)
    assert error.code == 7


def test_text_of_an_error_has_the_remote_traceback(compiled, workers):
    with InputNode() as inp:
        dag = workers[0].raise_error.bind(inp)
    graph = compiled(dag)
    with pytest.raises(ray.exceptions.RayTaskError) as caught:
        ray.get(graph.execute("x"))
    text = str(caught.value)
    assert "raise_error" in text
    assert "conftest.py" in text
    assert text.endswith("AppError: refused 'x'")


@pytest.mark.parametrize("builtin", [ValueError, KeyError, ZeroDivisionError, OSError, StopIteration, AssertionError])
def test_builtin_errors_keep_their_class(builtin, compiled, workers):
    def fail(cls):
        raise cls("told")

    with InputNode() as inp:
        dag = workers[0].call.bind(fail, inp)
    graph = compiled(dag)
    with pytest.raises(builtin, match="told"):
        ray.get(graph.execute(builtin))


def test_wrong_arguments_of_a_method_are_refused_by_bind(compiled, workers):
    with InputNode() as inp, pytest.raises(TypeError, match="echo"):
        workers[0].echo.bind(inp.one, inp.two)


def test_error_passes_through_later_methods_uncalled(compiled, workers, app_error):
    a, b, c, _ = workers
    ray.get(b.forget.remote())
    with InputNode() as inp:
        dag = c.echo.bind(b.record.bind("never", a.raise_error.bind(inp)))
    graph = compiled(dag)
    with pytest.raises(app_error, match="refused 1"):
        ray.get(graph.execute(1))
    assert ray.get(b.record.remote("after", None)) == [("after", None)]


def test_error_within_one_actor(compiled, workers):
    a = workers[0]
    with InputNode() as inp:
        dag = a.tag.bind(a.odd.bind(inp))
    graph = compiled(dag)
    with pytest.raises(ValueError, match="2 is even"):
        ray.get(graph.execute(2))
    assert ray.get(graph.execute(3)) == "3>a"


def test_first_error_among_the_arguments_wins(compiled, workers):
    a, b, c, _ = workers
    with InputNode() as inp:
        dag = c.add.bind(a.odd.bind(inp[0]), b.odd.bind(inp[1]))
    graph = compiled(dag)
    with pytest.raises(ValueError, match="2 is even"):
        ray.get(graph.execute(2, 1))
    with pytest.raises(ValueError, match="4 is even"):
        ray.get(graph.execute(1, 4))
    assert ray.get(graph.execute(1, 3)) == 4


def test_graph_goes_on_after_errors(compiled, workers):
    with InputNode() as inp:
        dag = workers[1].echo.bind(workers[0].odd.bind(inp))
    graph = compiled(dag)
    for i in range(6):
        ref = graph.execute(i)
        if i % 2:
            assert ray.get(ref) == i
        else:
            with pytest.raises(ValueError, match=f"{i} is even"):
                ray.get(ref)


def test_errors_of_executions_in_flight_stay_apart(compiled, workers):
    with InputNode() as inp:
        dag = workers[1].echo.bind(workers[0].odd.bind(inp))
    graph = compiled(dag)
    refs = [graph.execute(i) for i in range(6)]
    for i in (5, 0, 3, 4, 1, 2):
        if i % 2:
            assert ray.get(refs[i]) == i
        else:
            with pytest.raises(ValueError, match=f"{i} is even"):
                ray.get(refs[i])


def test_errors_of_several_outputs(compiled, workers):
    a, b, *_ = workers
    with InputNode() as inp:
        dag = MultiOutputNode([a.odd.bind(inp), b.odd.bind(inp)])
    graph = compiled(dag)
    with pytest.raises(ValueError, match="2 is even"):
        ray.get(graph.execute(2))
    for ref in graph.execute(4):
        with pytest.raises(ValueError, match="4 is even"):
            ray.get(ref)
    assert ray.get(graph.execute(5)) == [5, 5]


def test_error_of_an_output_that_several_nodes_read(compiled, workers):
    a, b, c, _ = workers
    with InputNode() as inp:
        source = a.odd.bind(inp)
        dag = MultiOutputNode([b.tag.bind(source), c.tag.bind(source), source])
    graph = compiled(dag)
    for ref in graph.execute(2):
        with pytest.raises(ValueError, match="2 is even"):
            ray.get(ref)
    assert ray.get(graph.execute(3)) == ["3>b", "3>c", 3]


def test_method_that_returns_too_many_values_or_no_tuple(compiled, workers):
    method = workers[0].call.options(num_returns=2)
    for result, message in [((1, 2, 3), "Expected 2 outputs, but got 3 outputs"), (1, "Expected a tuple of 2 outputs")]:
        with InputNode() as inp:
            dag = MultiOutputNode(list(method.bind(lambda value: value, inp)))
        graph = compiled(dag)
        with pytest.raises(ValueError, match=message):
            ray.get(graph.execute(result))
        graph.teardown()


def test_method_that_returns_too_few_values(compiled, workers):
    a, b, *_ = workers
    with InputNode() as inp:
        left, right = a.split.bind(inp)
        dag = MultiOutputNode([b.echo.bind(left), right])
    graph = compiled(dag)
    for ref in graph.execute("x"):
        with pytest.raises(IndexError):
            ray.get(ref)
    assert ray.get(graph.execute("yz")) == ["y", "z"]


def test_input_that_cannot_be_pickled_is_told_at_once(compiled, workers):
    with InputNode() as inp:
        dag = workers[0].echo.bind(inp)
    graph = compiled(dag)
    with pytest.raises(TypeError, match="lock"):
        graph.execute(threading.Lock())
    assert ray.get(graph.execute(1)) == 1


def test_error_of_a_nested_task(compiled, workers):
    @ray.remote
    def fail():
        raise LookupError("deep")

    with InputNode() as inp:
        dag = workers[0].call.bind(lambda _: ray.get(fail.remote()), inp)
    graph = compiled(dag)
    with pytest.raises(ray.exceptions.RayTaskError, match="LookupError: deep"):
        ray.get(graph.execute(1))


def test_killed_actor(compiled, mortals):
    x, y, z = mortals
    with InputNode() as inp:
        dag = MultiOutputNode([actor.tag.bind(inp) for actor in (x, y, z)])
    graph = compiled(dag)
    assert ray.get(graph.execute(0)) == ["0>x", "0>y", "0>z"]
    ray.kill(x)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(graph.execute(1), timeout=30)
    assert ray.get([actor.echo.remote("alive") for actor in (y, z)]) == ["alive", "alive"]
    with InputNode() as inp:
        dag = z.tag.bind(y.tag.bind(inp))
    assert ray.get(compiled(dag).execute(2)) == "2>y>z"


def test_actor_that_dies_in_its_method(compiled, mortals):
    x, y, z = mortals
    with InputNode() as inp:
        dag = z.echo.bind(y.die.bind(x.echo.bind(inp)))
    graph = compiled(dag)
    ref = graph.execute(1)
    with pytest.raises(ray.exceptions.ActorDiedError) as caught:
        ray.get(ref, timeout=60)
    assert isinstance(caught.value, ray.exceptions.RayActorError)
    assert ray.get([x.echo.remote(1), z.echo.remote(2)]) == [1, 2]


@pytest.mark.parametrize("leave", [sys.exit, ray.actor.exit_actor])
def test_actor_that_leaves_in_its_method(leave, compiled, mortals):
    """A method of a graph runs beside the actor's main thread; `exit_actor` there is refused by Ray."""
    x, y, _ = mortals
    with InputNode() as inp:
        dag = y.call.bind(lambda last, left: left() if last else 1, inp, leave)
    graph = compiled(dag)
    assert ray.get(graph.execute(False)) == 1
    with pytest.raises(ray.exceptions.RayError):
        ray.get(graph.execute(True), timeout=60)
    assert ray.get(x.echo.remote(1)) == 1


def test_teardown_after_death_is_quiet_and_repeats(compiled, mortals):
    x, y, _ = mortals
    with InputNode() as inp:
        dag = y.echo.bind(x.echo.bind(inp))
    graph = compiled(dag)
    assert ray.get(graph.execute(1)) == 1
    ray.kill(x)
    graph.teardown()
    graph.teardown()
    assert graph.is_teardown
    assert ray.get(y.echo.remote("alive")) == "alive"


def test_execute_after_a_death_was_seen(compiled, mortals):
    x, y, _ = mortals
    with InputNode() as inp:
        dag = y.echo.bind(x.echo.bind(inp))
    graph = compiled(dag)
    ray.kill(x)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(graph.execute(1), timeout=30)
    with pytest.raises((ray.exceptions.ActorDiedError, ray.exceptions.RayChannelError)):
        ray.get(graph.execute(2), timeout=30)


def test_compiling_with_a_dead_actor(compiled, mortals, kill_actor):
    x, y, _ = mortals
    kill_actor(x)
    with InputNode() as inp:
        dag = y.echo.bind(x.echo.bind(inp))
    with pytest.raises(ray.exceptions.ActorDiedError):
        compiled(dag)
    with InputNode() as inp:
        dag = y.echo.bind(inp)
    assert ray.get(compiled(dag).execute("again")) == "again"


def test_execute_does_not_tell_of_a_death_before_get_does(compiled, mortals):
    """The guide's failure example kills an actor, executes outside of any `try`, and expects the error of `ray.get`."""
    x, y, _ = mortals
    with InputNode() as inp:
        dag = y.echo.bind(x.echo.bind(inp))
    graph = compiled(dag)
    ray.kill(x)
    ref = graph.execute(1)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(ref, timeout=30)
    with pytest.raises(ray.exceptions.RayChannelError):
        graph.execute(2)
