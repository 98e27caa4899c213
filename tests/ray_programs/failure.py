"""
An application error leaves the graph usable; the death of an actor shuts it down, and the other actors live on.
"""

import ray
from ray.dag import InputNode, MultiOutputNode


@ray.remote
class EchoActor:
    def echo(self, msg):
        if msg == "bad":
            raise ValueError("cannot echo bad")
        return msg


actors = [EchoActor.remote() for _ in range(4)]
with InputNode() as inp:
    outputs = [actor.echo.bind(inp) for actor in actors]
    dag = MultiOutputNode(outputs)

compiled_dag = dag.experimental_compile()
try:
    ray.get(compiled_dag.execute("bad"))
except ValueError as error:
    print("application error:", isinstance(error, ray.exceptions.RayTaskError), "cannot echo bad" in str(error))
print(ray.get(compiled_dag.execute("good")))

# Kill one of the actors to simulate unexpected actor death.
ray.kill(actors[0])
ref = compiled_dag.execute(1)

live_actors = []
try:
    ray.get(ref)
except ray.exceptions.ActorDiedError:
    # At this point, the Compiled Graph is shutting down.
    for actor in actors:
        try:
            # Check for live actors.
            ray.get(actor.echo.remote("ping"))
            live_actors.append(actor)
        except ray.exceptions.RayActorError:
            pass

# Optionally, use the live actors to create a new Compiled Graph.
assert live_actors == actors[1:]
with InputNode() as inp:
    dag = MultiOutputNode([actor.echo.bind(inp) for actor in live_actors])
again = dag.experimental_compile()
print("again:", ray.get(again.execute("hello")))
again.teardown()
