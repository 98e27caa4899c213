"""
Torch tensors over shared memory, whole and inside of other data, with the type hints of the guide.
"""

import ray
import torch
from ray.dag import InputNode


@ray.remote
class Worker:
    def make(self, shape, value):
        return torch.full(shape, value)

    def wrap(self, tensor):
        return {"tensor": tensor, "sum": float(tensor.sum())}

    def unwrap(self, data):
        return data["tensor"] * 2, data["sum"]


sender, middle, receiver = [Worker.remote() for _ in range(3)]
with InputNode() as inp:
    dag = sender.make.bind(inp.shape, inp.value).with_tensor_transport(transport="shm")
    dag = middle.wrap.bind(dag).with_tensor_transport(transport="shm", device="cpu")
    dag = receiver.unwrap.bind(dag)
compiled = dag.experimental_compile()
for i in range(1, 4):
    tensor, total = ray.get(compiled.execute(shape=(10 * i,), value=float(i)))
    print(tensor.shape, tensor.dtype, float(tensor.sum()), total)
compiled.teardown()
