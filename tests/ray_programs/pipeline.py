"""
Executions in flight: submit several, read them in any order, meet the limit, read on.
"""

import ray
from ray.dag import InputNode


@ray.remote
class Stage:
    def __init__(self, name):
        self.name = name

    def run(self, x):
        return f"{x}>{self.name}"


first, second, third = [Stage.remote(name) for name in "abc"]
with InputNode() as inp:
    dag = third.run.bind(second.run.bind(first.run.bind(inp)))
compiled = dag.experimental_compile(_max_inflight_executions=4)

refs = [compiled.execute(i) for i in range(4)]
try:
    compiled.execute(4)
except ray.exceptions.RayCgraphCapacityExceeded as error:
    print(error)
print(ray.get(refs[3]), ray.get(refs[0]))
print(ray.get(refs[1:3]))
try:
    ray.get(refs[0])
except ValueError as error:
    print(error)
compiled.teardown()
