"""
Communicators: how tensors move between processes when they do not go through a channel's shared memory.

`gloo` and `nccl` are the kinds that cgc makes itself; users may bring any subclass of Ray's `Communicator`. `registry`
owns those of one process, `tensors` takes values apart into tensors and the rest. Only `gloo_group`, `fold` and
`tensors` import torch, and nothing of this package is imported by a graph that sends no tensors.
"""
