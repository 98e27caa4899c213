"""
The graph as a drawing: text on the console, and Graphviz where `dot` is installed.
"""

import contextlib
import io
import shutil
import tempfile
from pathlib import Path

import ray
from ray.dag import InputNode, MultiOutputNode


@ray.remote
class Worker:
    def inc(self, x):
        return x + 1

    def double(self, x):
        return x * 2

    def echo(self, x):
        return x


sender1 = Worker.remote()
sender2 = Worker.remote()
receiver = Worker.remote()

with InputNode() as inp:
    w1 = sender1.inc.bind(inp)
    w1 = receiver.echo.bind(w1)
    w2 = sender2.double.bind(inp)
    w2 = receiver.echo.bind(w2)
    dag = MultiOutputNode([w1, w2])

compiled_dag = dag.experimental_compile()
drawing = compiled_dag.visualize(format="ascii")
print([name in drawing for name in ("InputNode", "inc", "double", "echo", "MultiOutputNode")])
with contextlib.redirect_stdout(io.StringIO()) as console:
    compiled_dag.visualize(format="ascii", view=True)
print(drawing in console.getvalue())

if shutil.which("dot"):
    with tempfile.TemporaryDirectory() as folder:
        source = compiled_dag.visualize(filename=f"{folder}/graph", format="svg", channel_details=True)
        assert Path(folder, "graph.svg").stat().st_size > 0
        assert "inc" in source
print(ray.get(compiled_dag.execute(1)))
compiled_dag.teardown()
