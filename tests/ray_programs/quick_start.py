"""
Hello world of Ray's guide: the same echo on an actor, as a classic DAG, and compiled.
"""

import sys
import time

import ray
import ray.dag


@ray.remote
class SimpleActor:
    def echo(self, msg):
        return msg


def measure(label, call):
    for _ in range(5):  # warm-up
        call()
    start = time.perf_counter()
    result = call()
    print(f"{label}: {(time.perf_counter() - start) * 1e6:.0f} us", file=sys.stderr)
    print(label, result)


a = SimpleActor.remote()
measure("classic", lambda: ray.get(a.echo.remote("hello")))

with ray.dag.InputNode() as inp:
    # `bind` instead of `remote` returns a ray.dag.DAGNode instead of a ray.ObjectRef.
    dag = a.echo.bind(inp)
measure("dag", lambda: ray.get(dag.execute("hello")))

dag = dag.experimental_compile()
measure("compiled", lambda: ray.get(dag.execute("hello")))
dag.teardown()
