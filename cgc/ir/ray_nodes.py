"""What the importer reads off single nodes of `ray.dag`: the one place that knows their attributes."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from typing import Any

from ray.actor import ActorHandle
from ray.dag import ClassMethodNode, ClassNode, DAGNode, FunctionNode, InputAttributeNode
from ray.dag.collective_node import CollectiveOutputNode
from ray.dag.py_obj_scanner import _PyObjScanner
from ray.experimental.channel.auto_transport_type import AutoTransportType
from ray.experimental.channel.torch_tensor_type import TorchTensorType
from ray.experimental.util.types import AllGatherOp, AllReduceOp, ReduceScatterOp

from cgc.bind_location import bind_location
from cgc.errors import GraphError
from cgc.ir.attributes import OBJECT, TensorType, TransportAttr, ValueType
from cgc.ir.nesting import nodes_within
from cgc.ir.unit import ConstantTable


def arguments(node: DAGNode) -> list[Any]:
    """Everything that `node` takes, in order: positional and keyword arguments, or the input that it is a part of."""
    if isinstance(node, InputAttributeNode):
        return [node._dag_input_node]
    return [*node._bound_args, *node._bound_kwargs.values()]


def neighbours(node: DAGNode) -> Iterator[DAGNode]:
    """Nodes that `node` takes, its actor class if that is a node, and the nodes that take `node`."""
    yield from sources(node)
    if isinstance(node, ClassMethodNode) and isinstance(node._parent_class_node, ClassNode):
        yield node._parent_class_node
    yield from node._downstream_nodes


def connected(root: DAGNode) -> list[DAGNode]:
    """All nodes connected to `root`, those that it does not depend on included; depth first, so in a stable order."""
    seen = {id(root)}
    found: list[DAGNode] = []
    pending = [root]
    while pending:
        node = pending.pop()
        found.append(node)
        for neighbour in neighbours(node):
            if id(neighbour) not in seen:
                seen.add(id(neighbour))
                pending.append(neighbour)
    return found


def is_output_of_call(node: DAGNode) -> bool:
    """True for a node that stands for one of several results of a call."""
    return isinstance(node, ClassMethodNode) and node.is_class_method_output


def place(node: DAGNode, location_root: str | None = None) -> tuple[str, int] | None:
    """File (base name, or relative to `location_root` where it is below that) and line of the `.bind`."""
    location = bind_location(node)
    if location is None:
        return None
    file = os.path.basename(location.file)
    if location_root is not None:
        relative = os.path.relpath(location.file, location_root)
        file = file if relative.startswith(os.pardir) else relative.replace(os.sep, "/")
    printable = "".join(character if character.isprintable() else "?" for character in file)
    return printable, location.line


def describe(node: DAGNode) -> str:
    """`chain.py:8: a.fwd`, for messages."""
    return _before(node) + _what(node)


def _before(node: DAGNode) -> str:
    where = place(node)
    return f"{where[0]}:{where[1]}: " if where is not None else ""


def _what(node: DAGNode) -> str:
    if isinstance(node, ClassMethodNode):
        call = node.class_method_call or node
        return f"{class_name_of(call._parent_class_node)}.{call.get_method_name()}"
    if isinstance(node, ClassNode):
        return f"actor class {class_name_of(node)}"
    if isinstance(node, FunctionNode):
        return f"remote function {function_name(node)}"
    return type(node).__name__


def class_name_of(parent: Any) -> str:
    """Name, without module or enclosing scopes, of the class of an actor handle or of an actor class node."""
    if isinstance(parent, ClassNode):
        body = parent._body
        return str(getattr(body, "__ray_actor_class__", body).__name__)
    if isinstance(parent, ActorHandle):
        info = parent.__dict__.get("info")
        name = info.class_name if info is not None else parent._ray_actor_creation_function_descriptor.class_name
        return str(name).rpartition(".")[2]
    return type(parent).__name__


def function_name(node: FunctionNode) -> str:
    return str(getattr(node._body, "__name__", "function"))


def check_one_result(node: FunctionNode) -> None:
    """Raise `GraphError` for a remote function that is a generator, or whose results are several objects in Ray."""
    count = node._bound_options.get("num_returns")
    if inspect.isgeneratorfunction(node._body) or not (count is None or isinstance(count, int)):
        raise GraphError(f"{describe(node)} is a generator, which has no one result; return a list of what it yields")
    if count is not None and count > 1:
        raise GraphError(
            f"{describe(node)} has num_returns={count}: in a graph it has one result; leave num_returns out, and take"
            " the tuple apart where it is used"
        )


def num_returns(call: ClassMethodNode) -> int:
    """How many results a call has. Raises `GraphError` for generators."""
    if isinstance(call, CollectiveOutputNode):
        return len(call._bound_args)
    count = call._bound_options.get("num_returns")
    if count is None:
        count = call.num_returns if isinstance(call._parent_class_node, ActorHandle) else 1
    if not isinstance(count, int):
        raise GraphError(f"{describe(call)} is a generator (num_returns={count!r}); return a list or a tuple instead")
    return count


def creation_order(node: DAGNode) -> int | None:
    """Rises with the creation of nodes; None if the node was made before `import cgc`."""
    location = bind_location(node)
    return None if location is None else location.sequence


def value_type(node: DAGNode, constants: ConstantTable, default: Any = "create") -> ValueType:
    """
    The type of the node's value: `with_tensor_transport`, or any object.

    `default` is what a request for an accelerator's communicator gets: `"create"`, `"gloo"`, `"shm"`, or a
    communicator. With None, such a request is a `GraphError`.
    """
    # Ray's own compiler overwrites the hint of a node and keeps the user's in the second attribute.
    return _hint_type(node.__dict__.get("_original_type_hint") or node._type_hint, constants, default, node)


def collective_of(
    node: CollectiveOutputNode, constants: ConstantTable, default: Any = "create"
) -> tuple[str, str | None, TransportAttr]:
    """Kind (`allreduce`, `allgather`, `reduce_scatter`), reduce operation and transport; `default` as `value_type`."""
    operation = node._collective_op._op
    hint = node._collective_op._type_hint
    communicator = hint.get_custom_communicator()
    if communicator is not None:
        transport = TransportAttr.of("custom", constants.add(communicator))
    elif hint.transport == TorchTensorType.ACCELERATOR:
        transport = _request(hint, constants, default, node)
        _check_participants(node, default)
    else:
        transport = TransportAttr.of("accelerator")
    if isinstance(operation, AllReduceOp):
        return "allreduce", operation.reduceOp.name.lower(), transport
    if isinstance(operation, ReduceScatterOp):
        return "reduce_scatter", operation.reduceOp.name.lower(), transport
    if isinstance(operation, AllGatherOp):
        return "allgather", None, transport
    raise GraphError(f"{describe(node)}: unknown collective {type(operation).__name__}")


def _check_participants(node: CollectiveOutputNode, communicator: Any) -> None:
    """Raise `GraphError` if the collective has other participants than the user's default communicator."""
    if communicator is None or isinstance(communicator, str):
        return
    has, needs = set(communicator.get_actor_handles()), set(node._collective_op.actor_handles)
    if has != needs:
        raise GraphError(
            f"{describe(node)}: The passed-in communicator must have the same set of actors as the collective"
            f" operation. The passed-in communicator has actors {has} while the collective operation has actors"
            f" {needs}."
        )


def sources(node: DAGNode) -> list[DAGNode]:
    """The nodes that `node` takes, in order, those within containers included, as often as it takes them."""
    found: list[DAGNode] = []
    for argument in arguments(node):
        found += [argument] if isinstance(argument, DAGNode) else nodes_within(argument)
    return found


def check_all_reachable(node: DAGNode) -> None:
    """Raise `GraphError` if a node hides in an argument where nobody would replace it by its value."""
    reachable = {id(source) for source in sources(node)}
    if all(id(upstream) in reachable for upstream in node._upstream_nodes):
        return
    for argument in arguments(node):
        hidden = [] if isinstance(argument, DAGNode) else [n for n in _nodes_in(argument) if id(n) not in reachable]
        if hidden:
            raise GraphError(
                f"{describe(node)}: an argument is a {type(argument).__name__} with a node in it"
                f" ({describe(hidden[0])}), where its value cannot be put: bind the node as an argument of its own,"
                " or in a list, tuple, dict, named tuple or dataclass"
            )


def _nodes_in(value: Any) -> list[DAGNode]:
    """Nodes anywhere in an object, found as Ray finds them: by pickling it."""
    scanner = _PyObjScanner()
    try:
        return list(scanner.find_nodes(value))
    finally:
        scanner.clear()


def _hint_type(hint: Any, constants: ConstantTable, default: Any, node: DAGNode) -> ValueType:
    if not isinstance(hint, AutoTransportType | TorchTensorType):
        return OBJECT
    device = str(hint.device)
    return TensorType.of(
        "gpu" if device == "cuda" else device,
        request=_request(hint, constants, default, node),
        static=bool(hint._static_shape),
        direct=bool(hint._direct_return),
    )


def _request(hint: Any, constants: ConstantTable, default: Any, node: DAGNode) -> TransportAttr:
    if isinstance(hint, AutoTransportType):
        return TransportAttr.of("auto")
    if hint.transport != TorchTensorType.ACCELERATOR:
        # In TorchTensorType (not in with_tensor_transport) "auto" means host memory, and so does a communicator whose
        # transport is "cpu": Ray's CPUCommunicator has collectives only.
        return TransportAttr.of("shm")
    communicator = hint.get_custom_communicator()
    if communicator is not None:
        return TransportAttr.of("custom", constants.add(communicator))
    if default is None:
        raise GraphError(
            f"{_before(node)}DAGNode {_what(node)} has no custom communicator specified. Please specify a custom"
            " communicator for the DAGNode using `with_tensor_transport()`, or specify a communicator or 'create' for"
            " _default_communicator when calling experimental_compile() (default_communicator of cgc.compile())."
        )
    if isinstance(default, str):
        return TransportAttr.of("accelerator" if default == "create" else default)
    return TransportAttr.of("custom", constants.add(default))
