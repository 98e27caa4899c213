"""
The driver runs in an event loop: `execute_async` and `await`, one call and several at once.
"""

import asyncio

import ray
import ray.dag


@ray.remote
class EchoActor:
    def echo(self, msg):
        return msg


async def main():
    actor = EchoActor.remote()
    with ray.dag.InputNode() as inp:
        dag = actor.echo.bind(inp)

    cdag = dag.experimental_compile(enable_asyncio=True)

    async def call(i):
        # The first await returns once the input was submitted, the second one gets the result.
        fut = await cdag.execute_async(i)
        return await fut

    assert await call(42) == 42
    print(await asyncio.gather(*[call(i) for i in range(8)]))
    cdag.teardown()


asyncio.run(main())
