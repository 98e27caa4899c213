"""
A tensor goes from GPU to GPU through NCCL. Needs two GPUs.
"""

import ray
import ray.dag
import torch


@ray.remote(num_gpus=1)
class GPUSender:
    def send(self, shape):
        return torch.zeros(shape, device="cuda")


@ray.remote(num_gpus=1)
class GPUReceiver:
    def recv(self, tensor: torch.Tensor):
        assert tensor.device.type == "cuda"
        return tensor.shape


sender = GPUSender.remote()
receiver = GPUReceiver.remote()

with ray.dag.InputNode() as inp:
    dag = sender.send.bind(inp)
    # A hint that the return value of `send` should use NCCL.
    dag = dag.with_tensor_transport("nccl")
    dag = receiver.recv.bind(dag)

# The communicator is prepared on all workers, and operations are scheduled accordingly.
dag = dag.experimental_compile()
print(ray.get(dag.execute((10,))) == (10,))
dag.teardown()
