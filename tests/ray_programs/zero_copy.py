"""
NumPy arrays come back without a copy, read-only, and their memory is used again once they are gone.
"""

import numpy as np
import ray
from ray.dag import InputNode


@ray.remote
class Model:
    def scale(self, array, factor):
        return array * factor


model = Model.remote()
with InputNode() as inp:
    dag = model.scale.bind(inp[0], inp.factor)
compiled = dag.experimental_compile(_buffer_size_bytes=1000)

for size in (10, 1_000, 1_000_000):
    result = ray.get(compiled.execute(np.ones(size), factor=size))
    print(result.shape, float(result.sum()), result.flags.writeable)
    # Ray asks for this before the next execution.
    del result
compiled.teardown()
