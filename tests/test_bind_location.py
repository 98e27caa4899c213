"""Each node knows its `.bind`, whichever of cgc and Ray is imported first; importing cgc stays light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ray.dag import InputNode, MultiOutputNode

import cgc
from cgc.bind_location import bind_location
from cgc.ir.abstract import abstract_actor


def run(tmp_path: Path, source: str) -> str:
    """Output of a script in a fresh interpreter."""
    script = tmp_path / "script.py"
    script.write_text(source)
    root = str(Path(cgc.__file__).parents[1])
    command = [sys.executable, "-W", "ignore", str(script)]
    return subprocess.run(command, env={"PYTHONPATH": root}, capture_output=True, text=True, check=True).stdout


def test_importing_cgc_loads_neither_ray_nor_xdsl(tmp_path):
    source = "import sys, cgc\nprint([m for m in ('ray', 'xdsl', 'torch', 'numpy') if m in sys.modules])"
    assert run(tmp_path, source) == "[]\n"


NODES = """
a = ray.remote(type("A", (), {"f": lambda self, x: x})).bind()
with InputNode() as inp:            # line 5
    node = a.f.bind(
        inp[0],                     # line 7
    )
from cgc.bind_location import bind_location
for each in (inp, inp[0], node):
    location = bind_location(each)
    print(location and (location.file.endswith("script.py"), location.line))
"""


@pytest.mark.parametrize(
    "imports",
    [
        "import cgc\nimport ray\nfrom ray.dag import InputNode",
        "import ray\nimport cgc\nfrom ray.dag import InputNode",
        "import ray\nfrom ray.dag import InputNode\nimport cgc",
        "import cgc, importlib, ray\ndag = importlib.import_module('ray.dag')\nInputNode = dag.InputNode",
    ],
    ids=["cgc first", "ray first", "ray.dag first", "importlib"],
)
def test_whatever_is_imported_first(tmp_path, imports):
    padding = "\n" * (3 - imports.count("\n") - 1)
    output = run(tmp_path, imports + padding + NODES).splitlines()
    assert output == ["(True, 5)", "(True, 7)", "(True, 6)"]


def test_nodes_made_before_the_import_of_cgc_have_none(tmp_path):
    source = """
import ray
from ray.dag import InputNode
inp = InputNode()
import cgc
from cgc.bind_location import bind_location
print(bind_location(inp), bind_location(InputNode()).line)
"""
    assert run(tmp_path, source) == "None 7\n"


def test_installing_twice_wraps_once():
    from ray.dag import DAGNode

    from cgc import bind_location as module

    before = DAGNode.__init__
    module.install()
    assert DAGNode.__init__ is before


def test_looking_does_not_make_nodes():
    """InputNode answers to any attribute by making a node."""
    with InputNode() as inp:
        pass
    del inp.__dict__["_cgc_bind_location"]
    assert bind_location(inp) is None
    assert inp.input_attribute_nodes == {}


def test_nodes_are_counted_in_the_order_of_their_creation():
    a = abstract_actor("A")
    with InputNode() as inp:
        nodes = [inp, a.f.bind(inp), a.f.bind(inp[0])]
    nodes.append(MultiOutputNode(nodes[1:]))
    sequences = [bind_location(node).sequence for node in nodes]
    assert sequences == sorted(set(sequences))


def test_a_helper_of_the_user_is_the_users_code():
    def helper(node):
        return abstract_actor("A").f.bind(node)

    with InputNode() as inp:
        assert bind_location(helper(inp)).line == helper.__code__.co_firstlineno + 1
