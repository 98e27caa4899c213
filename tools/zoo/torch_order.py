"""
The schedules of `torch.distributed.pipelining`, simulated with our cost model.

torch's own classes give the order of the calls of each rank, and torch's own function places sends and receives in it:
they are issued there, on streams, and waited for by the call that needs them. Needs torch, but no processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphs import Action, gpipe_orders, interleaved_orders, one_f_one_b_orders, zero_bubble_orders
from ray_order import COMPUTE, READ, WRITE, Order

RANKS = 4
BATCHES = 8

_BOUND: dict[str, tuple[str, Callable[[], list[list[Action]]]]] = {
    "GPipe": ("ScheduleGPipe", gpipe_orders),
    "1F1B": ("Schedule1F1B", one_f_one_b_orders),
    "interleaved 1F1B": ("ScheduleInterleaved1F1B", interleaved_orders),
    "zero bubble H1": ("ScheduleInterleavedZeroBubble", zero_bubble_orders),
}
"""By graph of the zoo: torch's class, and in which order the calls of each actor are bound."""

_KINDS = {"F": "F", "B": "B", "I": "B", "W": "W"}
"""torch's letters for what an action computes, to ours: `I` is the backward pass without the weights."""


def torch_order(name: str) -> Order | None:
    """torch's order for a graph of the zoo; None if it has no such schedule, or is not installed."""
    try:
        from torch.distributed.pipelining import schedules
    except ImportError:
        return None
    if name not in _BOUND:
        return None
    class_name, bound = _BOUND[name]
    orders = bound()
    stages = 1 + max(stage for order in orders for _, stage, _ in order)
    made = getattr(schedules, class_name)
    computed = _compute_order(made, schedules, stages)
    actions = schedules._add_send_recv(computed, lambda stage: stage % RANKS, stages)
    return {f"a{rank}": list(_operations(actions[rank], order)) for rank, order in enumerate(orders)}


@dataclass
class _Stage:
    """As much of torch's pipeline stage as its schedules look at."""

    stage_index: int
    num_stages: int
    group_size: int = RANKS
    group_rank: int = 0
    stage_index_to_group_rank: Any = None
    submod: Any = None


def _compute_order(made: Any, schedules: Any, stages: int) -> dict[int, list[Any]]:
    """By rank what torch computes, without the steps in which it waits."""
    import torch

    local = [_Stage(index, stages, submod=torch.nn.Module()) for index in range(0, stages, RANKS)]
    single = issubclass(made, schedules.PipelineScheduleSingle)
    pipeline = made(local[0] if single else local, BATCHES).pipeline_order
    found = {
        rank: [action for action in actions if action is not None and action.computation_type.value in _KINDS]
        for rank, actions in pipeline.items()
    }
    # torch 2.13 numbers the forward calls of the last rank of its 1F1B from 1, in this list only.
    return {rank: [_from_zero(action, actions) for action in actions] for rank, actions in found.items()}


def _from_zero(action: Any, actions: list[Any]) -> Any:
    same = [other.microbatch_index for other in actions if other[:2] == action[:2]]
    return action._replace(microbatch_index=action.microbatch_index - min(same))


def _operations(actions: list[Any], order: list[Action]) -> Any:
    """torch's actions as operations of calls, whose number is their place in the order of binding."""
    number = {action: place for place, action in enumerate(order)}
    for action in actions:
        kind, stage, batch = action.computation_type.value, action.stage_index, action.microbatch_index
        if kind in _KINDS:
            call = number[_KINDS[kind], stage, batch]
            # What the driver sends and gets is in no schedule of torch's.
            if kind == "F" and stage == 0:
                yield READ, call
            yield COMPUTE, call
            if kind == "W" or (kind in "BI" and stage == 0):
                yield WRITE, call
        elif kind.startswith(("SEND_", "RECV_")):
            yield WRITE if kind.startswith("SEND_") else READ, number[kind[-1], stage, batch]
