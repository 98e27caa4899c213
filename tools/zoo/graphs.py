"""
Graphs as people write them, on actors that exist on paper: what schedules are judged by.

Each function returns a node; the order of binding is the order of the schedule that it is named after. Values between
stages go over `nccl`, whose ends meet. Times of the methods are in `profile.json` next to this file.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from ray.dag import InputNode, MultiOutputNode

from cgc import abstract_actor

Action = tuple[str, int, int]
"""(kind, stage, micro-batch): `F` forward, `B` backward (for the input, if there is `W`), `W` backward for weights."""

METHODS = {"F": "forward", "B": "backward", "W": "weights"}


def tensor_parallel(shards: int = 4, layers: int = 3) -> Any:
    """One value fans out to all shards, and their results meet again, layer by layer."""
    root, *rest = _actors(shards + 1, "Shard")
    with InputNode() as inp:
        value = root.embed.bind(inp)
        for _ in range(layers):
            sent = _nccl(value)
            value = root.combine.bind(*[_nccl(shard.part.bind(sent)) for shard in rest])
        return value


def gpipe(stages: int = 4, batches: int = 8) -> Any:
    """All forwards, then all backwards."""
    return _pipeline(gpipe_orders(stages, batches), stages)


def one_f_one_b(stages: int = 4, batches: int = 8) -> Any:
    """As many forwards as stages follow, then one forward and one backward in turn."""
    return _pipeline(one_f_one_b_orders(stages, batches), stages)


def interleaved(ranks: int = 4, chunks: int = 2, batches: int = 8) -> Any:
    """1F1B with several stages per actor: stage s is on actor s modulo `ranks`."""
    return _pipeline(interleaved_orders(ranks, chunks, batches), ranks * chunks)


def zero_bubble(stages: int = 4, batches: int = 8) -> Any:
    """H1: 1F1B whose backward is split, the part for the weights fills what would be waiting."""
    return _pipeline(zero_bubble_orders(stages, batches), stages, split=True)


def skip_edges(depth: int = 3) -> Any:
    """An encoder and a decoder whose levels are also joined directly."""
    actors = _actors(2 * depth, "Level")
    with InputNode() as inp:
        value: Any = inp
        skips = []
        for actor in actors[:depth]:
            value = _nccl(actor.down.bind(value))
            skips.append(value)
        for actor, skip in zip(actors[depth:], reversed(skips), strict=True):
            value = actor.up.bind(value, skip)
            value = value if actor is actors[-1] else _nccl(value)
        return value


def all_to_all(experts: int = 4, rounds: int = 2) -> Any:
    """Every actor sends a part to every expert, and gets a part back."""
    actors = _actors(experts, "Expert")
    with InputNode() as inp:
        values = [actor.tokens.bind(inp) for actor in actors]
        for _ in range(rounds):
            parts = [_split(actor.dispatch, experts, value) for actor, value in zip(actors, values, strict=True)]
            done = [_split(a.expert, experts, *[part[i] for part in parts]) for i, a in enumerate(actors)]
            values = [a.combine.bind(*[each[i] for each in done]) for i, a in enumerate(actors)]
        return MultiOutputNode(values)


def rollout_and_learner(workers: int = 4, steps: int = 3) -> Any:
    """Workers act with the last weights while the learner learns from the step before."""
    learner, *rest = _actors(workers + 1, "Rl")
    with InputNode() as inp:
        weights = _nccl(learner.start.bind(inp))
        outputs = []
        for _ in range(steps):
            samples = [_nccl(worker.rollout.bind(weights)) for worker in rest]
            learned = learner.learn.bind(*samples)
            outputs.append(learner.report.bind(learned))
            weights = _nccl(learned)
        return MultiOutputNode([*outputs, rest[0].rollout.bind(weights)])


def layered(seed: int = 1, actors: int = 6, layers: int = 8, width: int = 6) -> Any:
    """Random layers: every call takes one to three values of the layer before."""
    rng = random.Random(seed)
    everybody = _actors(actors, "Layer")
    with InputNode() as inp:
        before = [everybody[0].call0.bind(inp)]
        unused: list[Any] = []
        for _ in range(layers):
            used: set[int] = set()
            now = []
            for _ in range(rng.randint(2, width)):
                taken = rng.sample(range(len(before)), min(len(before), rng.randint(1, 3)))
                used.update(taken)
                method = getattr(rng.choice(everybody), f"call{rng.randint(0, 3)}")
                now.append(_nccl(method.bind(*[before[i] for i in taken])))
            unused += [value for i, value in enumerate(before) if i not in used]
            before = now
        last = everybody[0].join.bind(*unused, *before)
        return last


def _actors(count: int, class_name: str) -> list[Any]:
    return [abstract_actor(class_name, name=f"a{i}", devices=[f"gpu:{i}"]) for i in range(count)]


def _nccl(node: Any) -> Any:
    return node.with_tensor_transport(transport="nccl")


def _split(method: Any, parts: int, *arguments: Any) -> list[Any]:
    return [_nccl(part) for part in method.options(num_returns=parts).bind(*arguments)]


def _pipeline(orders: list[list[Action]], stages: int, split: bool = False) -> Any:
    """Bind the actions of all actors, each in its order, as soon as what they need is bound."""
    actors = _actors(len(orders), "SplitStage" if split else "Stage")
    bound: dict[Action, Any] = {}
    outputs = []
    positions = [0] * len(orders)
    with InputNode() as inp:
        while any(position < len(order) for position, order in zip(positions, orders, strict=True)):
            for rank, order in enumerate(orders):
                if positions[rank] == len(order):
                    continue
                kind, stage, batch = order[positions[rank]]
                needed = _needs(kind, stage, batch, stages)
                if needed is not None and needed not in bound:
                    continue
                value = inp if needed is None else bound[needed]
                node = getattr(actors[rank], METHODS[kind]).bind(value)
                crosses = (kind == "F" and stage < stages - 1) or (kind == "B" and stage > 0)
                bound[kind, stage, batch] = _nccl(node) if crosses else node
                if (kind == "B" and stage == 0) or kind == "W":
                    outputs.append(bound[kind, stage, batch])
                positions[rank] += 1
        return MultiOutputNode(outputs)


def _needs(kind: str, stage: int, batch: int, stages: int) -> Action | None:
    if kind == "F":
        return None if stage == 0 else ("F", stage - 1, batch)
    if kind == "W":
        return ("B", stage, batch)
    return ("F", stage, batch) if stage == stages - 1 else ("B", stage + 1, batch)


def gpipe_orders(stages: int = 4, batches: int = 8) -> list[list[Action]]:
    """By actor, the order in which `gpipe` binds."""
    return [_gpipe_order(stage, batches) for stage in range(stages)]


def one_f_one_b_orders(stages: int = 4, batches: int = 8) -> list[list[Action]]:
    """The same for `one_f_one_b`."""
    return [_one_f_one_b_order(stage, stages, batches) for stage in range(stages)]


def interleaved_orders(ranks: int = 4, chunks: int = 2, batches: int = 8) -> list[list[Action]]:
    """The same for `interleaved`."""
    return [_interleaved_order(rank, ranks, chunks, batches) for rank in range(ranks)]


def zero_bubble_orders(stages: int = 4, batches: int = 8) -> list[list[Action]]:
    """The same for `zero_bubble`."""
    return [_zero_bubble_order(stage, stages, batches) for stage in range(stages)]


def _gpipe_order(stage: int, batches: int) -> list[Action]:
    return [("F", stage, b) for b in range(batches)] + [("B", stage, b) for b in range(batches)]


def _one_f_one_b_order(stage: int, stages: int, batches: int) -> list[Action]:
    ahead = min(stages - stage, batches)
    order: list[Action] = [("F", stage, b) for b in range(ahead)]
    for batch in range(batches):
        order.append(("B", stage, batch))
        if batch + ahead < batches:
            order.append(("F", stage, batch + ahead))
    return order


def _interleaved_order(rank: int, ranks: int, chunks: int, batches: int) -> list[Action]:
    """As Megatron's: groups of `ranks` micro-batches go through all chunks before the next group starts."""

    def place(number: int, forward: bool) -> tuple[int, int]:
        group, within = divmod(number, ranks * chunks)
        chunk = within // ranks
        stage = (chunk if forward else chunks - 1 - chunk) * ranks + rank
        return stage, group * ranks + within % ranks

    total = batches * chunks
    ahead = min((ranks - rank - 1) * 2 + (chunks - 1) * ranks, total)
    order: list[Action] = [("F", *place(n, True)) for n in range(ahead)]
    for number in range(total - ahead):
        order.append(("F", *place(ahead + number, True)))
        order.append(("B", *place(number, False)))
    return order + [("B", *place(n, False)) for n in range(total - ahead, total)]


def _zero_bubble_order(stage: int, stages: int, batches: int) -> list[Action]:
    ahead = min(stages - stage, batches)
    order: list[Action] = [("F", stage, b) for b in range(ahead)]
    weights = 0
    for batch in range(batches):
        order.append(("B", stage, batch))
        if batch + ahead < batches:
            if batch >= stage:
                order.append(("W", stage, weights))
                weights += 1
            order.append(("F", stage, batch + ahead))
        else:
            order.append(("W", stage, weights))
            weights += 1
    return order + [("W", stage, b) for b in range(weights, batches)]


ZOO: dict[str, Callable[[], Any]] = {
    "tensor parallel": tensor_parallel,
    "GPipe": gpipe,
    "1F1B": one_f_one_b,
    "interleaved 1F1B": interleaved,
    "zero bubble H1": zero_bubble,
    "skip edges": skip_edges,
    "all to all": all_to_all,
    "rollout and learner": rollout_and_learner,
    "random layers": layered,
}
