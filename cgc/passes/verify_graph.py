"""
verify-graph: a graph that a user wrote keeps the rules of compiled graphs.

Requires: level `graph`, as imported.
Guarantees: exactly one input, which somebody uses, whole or in parts but not both; there are calls, each on an actor
that exists, and somebody uses its result; collectives have each participant once; there is an output.
All violations are found and reported in one `GraphError`, each with its place and what to do. Changes nothing.

    %0 = cgc.input                          stages.py:9: the result of a.fwd is not used: add the node to the
    %1 = cgc.call @a::@fwd(%0)        ->    MultiOutputNode, or do not bind it
    %2 = cgc.call @a::@bwd(%0)
    cgc.output %2
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cgc.errors import GraphError, Violation
from cgc.ir import (
    ActorOp,
    CallOp,
    CollectiveOp,
    GraphOp,
    InputAttrOp,
    InputOp,
    Operation,
    OutputOp,
    location_text,
)
from cgc.passes.base import Pass, PassContext
from cgc.passes.graph_view import DRIVER_KIND, actors_of, body_of


def violations(graph: GraphOp) -> list[Violation]:
    """All rules that the graph breaks, each with a sentence that says place and remedy."""
    operations = list(body_of(graph).body.block.ops)
    actors = actors_of(graph)
    found = [*_input_violations(operations), *_actor_violations(actors)]
    if not any(isinstance(operation, CallOp) for operation in operations):
        text = "the graph calls nobody: bind at least one method of an actor, or a remote function, to the input"
        found.append(Violation("no-call", "", text))
    for operation in operations:
        if isinstance(operation, CallOp):
            found += _call_violations(operation, actors[operation.actor].kind.data)
        elif isinstance(operation, CollectiveOp):
            found += _collective_violations(operation)
        elif isinstance(operation, InputAttrOp):
            found += _part_violations(operation)
        elif isinstance(operation, OutputOp):
            found += _output_violations(operation)
    return found


def _input_violations(operations: Sequence[Operation]) -> Iterator[Violation]:
    inputs = [op for op in operations if isinstance(op, InputOp)]
    if not inputs:
        text = (
            "the graph has no InputNode: wrap its construction in `with InputNode() as inp:` and bind `inp` to a call"
        )
        yield Violation("no-input", "", text)
    for extra in inputs[1:]:
        first = location_text(inputs[0]) or "another place"
        text = f"a second InputNode; the graph has one from {first} already: use that one everywhere"
        yield _violation("second-input", "", extra, text)
    for operation in inputs:
        users = [user for user in operations if operation.result in user.operands]
        part = next((user for user in users if isinstance(user, InputAttrOp)), None)
        whole = next((user for user in users if not isinstance(user, InputAttrOp)), None)
        if whole is not None and part is not None:
            text = (
                f"takes the whole input, while {location_text(part) or 'another node'} takes a part of it:"
                " bind either `inp` itself everywhere, or only parts of it such as `inp[0]` or `inp.key`"
            )
            yield _violation("whole-and-part", "", whole, text)
        if not users:
            yield _violation("unused-input", "", operation, "nobody uses the input: bind `inp` to at least one call")


def _part_violations(operation: InputAttrOp) -> Iterator[Violation]:
    key = operation.key_value
    if not _is_used(operation):
        text = f"{_part(operation)} of the input is not used: bind it to a call, or remove it"
        yield _violation("unused-part", str(key), operation, text)
    if isinstance(key, int) and key < 0:
        text = f"{_part(operation)} of the input: the number of inputs follows from the parts, so count them from 0"
        yield _violation("negative-part", str(key), operation, text)


def _actor_violations(actors: Mapping[str, ActorOp]) -> Iterator[Violation]:
    for name, actor in actors.items():
        class_name = name if actor.class_name is None else actor.class_name.data
        if actor.kind.data == "class":
            text = (
                f"{class_name} is an actor class that is not instantiated:"
                f" create the actor with `{class_name}.remote()` and bind its methods"
            )
            yield _violation("class", class_name, actor, text)


def _call_violations(call: CallOp, kind: str) -> Iterator[Violation]:
    if kind == DRIVER_KIND:
        text = f"{call.method} is bound to the driver, which cannot be called: bind it to an actor"
        yield _violation("driver-call", call.method, call, text)
    if kind in ("actor", "task") and call.outputs and not _is_used(call):
        text = (
            f"the result of {_name(call, kind)} is not used, so that nobody would learn of its errors:"
            " add the node to the MultiOutputNode, do not bind it, or compile with allow_leaf_nodes=True"
        )
        yield _violation("leaf", call.method, call, text)


def _collective_violations(collective: CollectiveOp) -> Iterator[Violation]:
    names = collective.participant_names
    twice = sorted({name for name in names if names.count(name) > 1}, key=names.index)
    if twice:
        text = f"{', '.join(twice)} takes part twice: give at most one value of each actor"
        yield _violation("participant-twice", twice[0], collective, text)
    if not _is_used(collective):
        text = "the results of the collective are not used: add them to the MultiOutputNode"
        yield _violation("leaf", "collective", collective, text)


def _output_violations(output: OutputOp) -> Iterator[Violation]:
    if not output.outputs:
        yield _violation("no-output", "", output, "the graph has no output: give MultiOutputNode at least one node")


def _name(call: CallOp, kind: str) -> str:
    return call.method if kind == "task" else f"{call.actor}.{call.method}"


def _is_used(operation: Operation) -> bool:
    return any(result.uses for result in operation.results)


def _part(operation: InputAttrOp) -> str:
    key = operation.key_value
    return f"attribute {key!r}" if operation.accessor.data == "attr" else f"part [{key!r}]"


def _violation(rule: str, subject: str, operation: Operation, text: str) -> Violation:
    location = location_text(operation)
    return Violation(rule, subject, f"{location}: {text}" if location else text)


@dataclass(frozen=True)
class VerifyGraphPass(Pass):
    """See the top of this file."""

    name = "verify-graph"
    accepts = ("graph",)

    def apply(self, graph: GraphOp, context: PassContext) -> None:
        context.keep()
        found = violations(graph)
        if found:
            head = f"graph {graph.sym_name.data} cannot be compiled"
            texts = [violation.text for violation in found]
            lines = [f"{head}: {texts[0]}"] if len(texts) == 1 else [f"{head}, for {len(texts)} reasons:", *texts]
            raise GraphError("\n  ".join(lines), found)
