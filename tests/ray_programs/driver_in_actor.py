"""
The driver of a graph is itself an actor, as in serving: it owns its workers and the compiled graph.
"""

import ray
from ray.dag import InputNode, MultiOutputNode


@ray.remote
class Worker:
    def __init__(self, rank):
        self.rank = rank

    def forward(self, x):
        return x * 10 + self.rank


@ray.remote
class Engine:
    def __init__(self, size):
        self.workers = [Worker.remote(rank) for rank in range(size)]
        with InputNode() as inp:
            dag = MultiOutputNode([worker.forward.bind(inp) for worker in self.workers])
        self.graph = dag.experimental_compile()

    def step(self, x):
        return ray.get(self.graph.execute(x))

    def stop(self):
        self.graph.teardown()
        return ray.get([worker.forward.remote(0) for worker in self.workers])


engine = Engine.remote(2)
print([ray.get(engine.step.remote(x)) for x in range(3)])
print(ray.get(engine.stop.remote()))
