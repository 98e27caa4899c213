"""
A message passes through two actors; then two actors get the same message in parallel. Actors are used again.
"""

import ray
import ray.dag


@ray.remote
class SimpleActor:
    def echo(self, msg):
        return msg


a = SimpleActor.remote()
b = SimpleActor.remote()

with ray.dag.InputNode() as inp:
    dag = a.echo.bind(inp)
    dag = b.echo.bind(dag)

dag = dag.experimental_compile()
print(ray.get(dag.execute("hello")))
dag.teardown()

with ray.dag.InputNode() as inp:
    dag = ray.dag.MultiOutputNode([a.echo.bind(inp), b.echo.bind(inp)])

dag = dag.experimental_compile()
print(ray.get(dag.execute("hello")))
dag.teardown()

print(ray.get([a.echo.remote("a lives"), b.echo.remote("b lives")]))
