"""A rank's process, run as a script: takes pickled functions from its parent and calls them with what it has joined."""

from __future__ import annotations

import pickle
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any


def main(descriptor: int, rank: int) -> None:
    import torch

    torch.set_num_threads(1)
    parent = Connection(descriptor)
    here: dict[str, Any] = {"rank": rank}
    while True:
        try:
            function, args = pickle.loads(parent.recv_bytes())
        except EOFError:
            return
        try:
            reply = (True, function(here, *args))
        except Exception as error:
            reply = (False, f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
        parent.send(reply)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
