"""
Numbers that the participants of one graph agree on: message kinds, close codes, states, progress words.

They travel in 32-bit or 64-bit words of shared memory, so they are plain integers. All participants run the same
version of cgc (`cluster.probe` checks it).
"""

from __future__ import annotations

from typing import Final

# Kinds of values, see serialization.py. A message of several values is one MULTI message with a table of these.
OBJECT: Final = 0
"""A protocol 5 pickle with out-of-band buffers."""
BYTES: Final = 1
STR: Final = 2
SCALAR: Final = 3
"""None, bool, int, float or complex in marshal's format."""
BYTEARRAY: Final = 4
ARRAY: Final = 5
"""A NumPy array: header in-band, data in the one buffer."""
TENSOR: Final = 6
"""A dense torch CPU tensor: header in-band, data in the one buffer."""
ERROR: Final = 7
"""A RayTaskError instead of the value."""
MULTI: Final = 8
TENSORS: Final = 9
"""A header: the tensors of the value follow on the channel's communicator."""
OBJECT_WITH_REFERENCES: Final = 10
"""An OBJECT that contains ObjectRefs or actor handles, behind the head of its offer, see handover.py."""

# Why an arena was closed: the `code` of `Arena.close`; `culprit` is the participant's number.
CLOSED_BY_TEARDOWN: Final = 1
CLOSED_BY_ACTOR_DEATH: Final = 2
CLOSED_BY_DRIVER_DEATH: Final = 3
CLOSED_BY_WORKER_FAILURE: Final = 4
"""cgc itself failed in a worker; the worker keeps the traceback for the driver to fetch."""
CLOSED_BY_ACTOR_EXIT: Final = 5
"""A method asked for its actor's exit."""

# A participant's state word.
STATE_RUNNING: Final = 1
STATE_EXITED: Final = 2

# A participant's progress words.
PROGRESS_EXECUTION: Final = 0
"""Executions begun, so the execution that is worked on has this number minus one."""
PROGRESS_OPERATION: Final = 1
"""Index of the operation in the participant's program."""
PROGRESS_SINCE: Final = 2
"""`time.monotonic_ns()` when the operation began; the clock is the same for all processes of a node."""

DRIVER_PARTICIPANT: Final = 0
