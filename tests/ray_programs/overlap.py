"""
Communication between GPUs while the receiver computes, and the same without overlap. Needs two GPUs.
"""

import sys
import time

import ray
import torch
from ray.dag import InputNode, MultiOutputNode


@ray.remote(num_gpus=1)
class TorchTensorWorker:
    def send(self, shape, dtype, value: int):
        return torch.ones(shape, dtype=dtype, device="cuda") * value

    def recv_and_matmul(self, two_d_tensor):
        """Multiply the tensor by its transpose, which takes about as long as the next transfer."""
        return int((two_d_tensor @ two_d_tensor.T)[0][0].item()), tuple(two_d_tensor.shape)


sender, receiver = TorchTensorWorker.remote(), TorchTensorWorker.remote()
shape, dtype, branches = (2000, 2000), torch.float16, 4

for overlap in (False, True):
    with InputNode() as inp:
        outputs = []
        for _ in range(branches):
            tensor = sender.send.bind(shape, dtype, inp).with_tensor_transport(transport="accelerator")
            outputs.append(receiver.recv_and_matmul.bind(tensor))
        dag = MultiOutputNode(outputs)
    compiled = dag.experimental_compile(_overlap_gpu_communication=overlap)
    start = time.monotonic()
    for value in range(3):
        print(overlap, ray.get(compiled.execute(value)))
    print(f"overlap={overlap}: {time.monotonic() - start:.3f} s", file=sys.stderr)
    compiled.teardown()
