"""
The program of the profiling guide, without a GPU. Run with RAY_CGRAPH_ENABLE_TORCH_PROFILING=1.
"""

import ray
import torch
from ray.dag import InputNode


@ray.remote
class RayActor:
    def send(self, shape, dtype, value: int):
        return torch.ones(shape, dtype=dtype) * value

    def recv(self, tensor):
        return tensor[0].item(), tensor.shape, tensor.dtype


sender = RayActor.remote()
receiver = RayActor.remote()

with InputNode() as inp:
    dag = sender.send.bind(inp.shape, inp.dtype, inp.value)
    dag = receiver.recv.bind(dag)

compiled_dag = dag.experimental_compile()
for i in range(3):
    shape = (10 * (i + 1),)
    print(ray.get(compiled_dag.execute(shape=shape, dtype=torch.float16, value=i)))
compiled_dag.teardown()
