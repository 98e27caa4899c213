"""
A result that is late: the time-out of the environment, and the one of a call. Run with RAY_CGRAPH_get_timeout=1.
"""

import threading

import ray
from ray.dag import InputNode


@ray.remote
class Late:
    def __init__(self):
        self.gate = threading.Event()

    def open(self):
        self.gate.set()

    def echo(self, msg):
        if msg == "late":
            self.gate.wait()
        return msg


actor = Late.remote()
with InputNode() as inp:
    dag = actor.echo.bind(inp)
compiled = dag.experimental_compile()
# The first execution includes the start of the actor.
print(ray.get(compiled.execute("early"), timeout=60))

first, second = compiled.execute("late"), compiled.execute("later")
for ref, timeout in ((first, 0.1), (second, None)):
    try:
        ray.get(ref, timeout=timeout)
    except ray.exceptions.RayChannelTimeoutError as error:
        print("late by", timeout, "RAY_CGRAPH_get_timeout" in str(error))

ray.get(actor.open.remote())
print(ray.get(compiled.execute("again"), timeout=30))
compiled.teardown()
