"""
The statements and programs of Ray's quick start on compiled graphs, on cgc.

Every program of that document is here, changed in one line only: `dag.experimental_compile(...)` has become
`cgc.compile(dag, ...)`. `tests/test_install.py` runs the unchanged form through `cgc.install()`.
"""

import asyncio

import pytest
import ray
import ray.dag
import ray.exceptions
from ray.dag import InputNode, MultiOutputNode

import cgc

pytestmark = pytest.mark.usefixtures("ray_session")


@ray.remote
class SimpleActor:
    def echo(self, msg):
        return msg


@ray.remote
class Slow:
    """Holds each call until it is released, so that a test decides what overlaps with what."""

    def __init__(self, gate):
        self.gate = gate

    def echo(self, msg):
        ray.get(self.gate.wait.remote(msg))
        return msg


@ray.remote
class Gate:
    """Lets `wait(x)` return once `open(x)` was called; remembers who arrived."""

    def __init__(self):
        self.opened: dict[object, asyncio.Event] = {}
        self.arrived: dict[object, asyncio.Event] = {}

    def _event(self, table, key):
        return table.setdefault(key, asyncio.Event())

    async def wait(self, key):
        self._event(self.arrived, key).set()
        await self._event(self.opened, key).wait()

    async def announce(self, key):
        self._event(self.arrived, key).set()

    async def open(self, key):
        self._event(self.opened, key).set()

    async def until_arrived(self, key):
        await self._event(self.arrived, key).wait()


def test_hello_world():
    a = SimpleActor.remote()
    with ray.dag.InputNode() as inp:
        dag = a.echo.bind(inp)
    compiled = cgc.compile(dag)
    for _ in range(5):
        assert ray.get(compiled.execute("hello")) == "hello"
    compiled.teardown()


def test_uncompiled_execution_still_works():
    a = SimpleActor.remote()
    with ray.dag.InputNode() as inp:
        dag = a.echo.bind(inp)
    assert ray.get(dag.execute("hello")) == "hello"


def test_normal_tasks_run_while_the_actor_is_in_a_graph():
    a = SimpleActor.remote()
    with ray.dag.InputNode() as inp:
        dag = a.echo.bind(inp)
    with cgc.compile(dag) as compiled:
        assert ray.get(compiled.execute(1)) == 1
        assert ray.get(a.echo.remote(2)) == 2
        assert ray.get(compiled.execute(3)) == 3


def test_actor_is_reusable_after_teardown():
    a = SimpleActor.remote()
    for message in ("first", "second"):
        with ray.dag.InputNode() as inp:
            dag = a.echo.bind(inp)
        compiled = cgc.compile(dag)
        assert ray.get(compiled.execute(message)) == message
        compiled.teardown()


def test_data_dependencies():
    a = SimpleActor.remote()
    b = SimpleActor.remote()
    with ray.dag.InputNode() as inp:
        dag = a.echo.bind(inp)
        dag = b.echo.bind(dag)
    with cgc.compile(dag) as compiled:
        assert ray.get(compiled.execute("hello")) == "hello"


def test_multi_output():
    a = SimpleActor.remote()
    b = SimpleActor.remote()
    with ray.dag.InputNode() as inp:
        dag = ray.dag.MultiOutputNode([a.echo.bind(inp), b.echo.bind(inp)])
    with cgc.compile(dag) as compiled:
        refs = compiled.execute("hello")
        assert len(refs) == 2
        assert ray.get(refs) == ["hello", "hello"]


def test_actors_of_one_graph_work_as_a_pipeline():
    """The upstream actor takes the next execution while the downstream one is still in the previous one."""

    @ray.remote
    class Announcing:
        def __init__(self, gate):
            self.gate = gate

        def echo(self, msg):
            ray.get(self.gate.announce.remote(("upstream", msg)))
            return msg

    gate = Gate.remote()
    upstream, downstream = Announcing.remote(gate), Slow.remote(gate)
    with ray.dag.InputNode() as inp:
        dag = downstream.echo.bind(upstream.echo.bind(inp))
    with cgc.compile(dag) as compiled:
        refs = [compiled.execute(i) for i in range(3)]
        ray.get(gate.until_arrived.remote(0), timeout=30)
        ray.get([gate.until_arrived.remote(("upstream", i)) for i in (1, 2)], timeout=30)
        ray.get([gate.open.remote(i) for i in range(3)])
        assert ray.get(refs, timeout=30) == [0, 1, 2]


def test_calls_of_one_actor_finish_before_its_next_execution():
    @ray.remote
    class Recorder:
        def __init__(self):
            self.seen = []

        def first(self, x):
            self.seen.append(("first", x))
            return x

        def second(self, x):
            self.seen.append(("second", x))
            return list(self.seen)

    recorder = Recorder.remote()
    with InputNode() as inp:
        dag = recorder.second.bind(recorder.first.bind(inp))
    with cgc.compile(dag) as compiled:
        refs = [compiled.execute(i) for i in range(4)]
        history = [ray.get(ref) for ref in refs][-1]
    assert history == [(method, i) for i in range(4) for method in ("first", "second")]


def test_asyncio():
    actor = SimpleActor.remote()
    with ray.dag.InputNode() as inp:
        dag = actor.echo.bind(inp)
    compiled = cgc.compile(dag, enable_asyncio=True)

    async def run(i):
        future = await compiled.execute_async(i)
        return await future

    assert asyncio.run(run(42)) == 42
    compiled.teardown()


def test_application_error_is_ray_task_error_and_the_users_class():
    @ray.remote
    class Fails:
        def maybe(self, x):
            if x < 0:
                raise LookupError(f"no {x}")
            return x

    actor = Fails.remote()
    with InputNode() as inp:
        dag = actor.maybe.bind(inp)
    with cgc.compile(dag) as compiled:
        with pytest.raises(LookupError, match="no -1") as caught:
            ray.get(compiled.execute(-1))
        assert isinstance(caught.value, ray.exceptions.RayTaskError)
        assert ray.get(compiled.execute(1)) == 1


def test_actor_death_leaves_the_others_alive():
    actors = [SimpleActor.remote() for _ in range(4)]
    with InputNode() as inp:
        dag = MultiOutputNode([actor.echo.bind(inp) for actor in actors])
    compiled = cgc.compile(dag)
    ray.kill(actors[0])
    live_actors = []
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(compiled.execute(1))
    for actor in actors:
        try:
            ray.get(actor.echo.remote("ping"))
            live_actors.append(actor)
        except ray.exceptions.RayActorError:
            pass
    assert live_actors == actors[1:]

    with InputNode() as inp:
        again = MultiOutputNode([actor.echo.bind(inp) for actor in live_actors])
    with cgc.compile(again) as compiled:
        assert ray.get(compiled.execute(2)) == [2, 2, 2]


def test_get_timeout_per_call_then_the_result_is_still_readable():
    gate = Gate.remote()
    actor = Slow.remote(gate)
    with InputNode() as inp:
        dag = actor.echo.bind(inp)
    with cgc.compile(dag) as compiled:
        ref = compiled.execute("late")
        with pytest.raises(ray.exceptions.RayChannelTimeoutError, match="echo"):
            ray.get(ref, timeout=0.2)
        ray.get(gate.open.remote("late"))
        assert ray.get(ref, timeout=30) == "late"


@pytest.mark.gpu
def test_cpu_to_gpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")

    @ray.remote(num_gpus=1)
    class GPUActor:
        def process(self, tensor):
            assert tensor.device.type == "cuda"
            return tensor.shape

    actor = GPUActor.remote()
    with ray.dag.InputNode() as inp:
        dag = actor.process.bind(inp.with_tensor_transport(device="cuda"))
    with cgc.compile(dag) as compiled:
        assert ray.get(compiled.execute(torch.zeros(10))) == (10,)
