"""The native core: shared-memory arenas, rings, segments and leases (no pickle, no Ray; bytes in, bytes out).

Time-outs are seconds: negative waits for ever, 0 tries once. Every call that may wait releases the GIL, wakes within
milliseconds of `Arena.close`, and is interruptible by Python signal handlers (Ctrl-C) when called on the main thread.
"""

from collections.abc import Buffer, Sequence  # type: ignore[attr-defined]

class ChannelClosed(Exception):
    """The arena was closed. `code` and `culprit` are what the first closer gave to `Arena.close`."""

    code: int
    culprit: int

class ChannelTimeout(Exception):
    """The time-out ended. `holders` are the ranks that kept a writer waiting: readers behind, or lease holders."""

    holders: tuple[int, ...]

class ChannelCorrupt(Exception):
    """A header or descriptor in shared memory does not make sense (wrong magic, out of bounds)."""

class ChannelMemory(MemoryError):
    """Shared memory could not be had: the message says how much was asked for, and what the limit is."""

ArenaHandle = tuple[int, int, int, int]
"""(pid of the creator, its descriptor, inode, random cookie): picklable, valid until `release_handle`."""

class Arena:
    """All rings of one graph in one anonymous shared-memory file (mode 0600, never a name in any file system)."""

    @staticmethod
    def create(
        rings: Sequence[tuple[int, int, int]], participants: int, max_bytes: int = 0, spin_us: int = -1
    ) -> Arena:
        """Create and map an arena. `rings`: (readers, slots, slot bytes) each; `participants`: progress lines.

        `max_bytes`: limit for arena and segments together, 0 for none. `spin_us`: length of the yield phase before
        a waiter sleeps, negative for the default. Raises `ChannelMemory`; all pages are reserved, so that a later
        access never faults with SIGBUS.
        """

    @staticmethod
    def attach(handle: ArenaHandle) -> Arena:
        """Map an arena of another process of the same user. Raises `ChannelCorrupt`, `OSError`."""

    @property
    def handle(self) -> ArenaHandle: ...
    def release_handle(self) -> None:
        """Close the creator's descriptor: nobody can attach any more; mappings stay. Idempotent."""
    @property
    def nbytes(self) -> int:
        """Bytes of the arena and of all live segments of its rings."""
    @property
    def closed(self) -> tuple[int, int] | None:
        """(code, culprit) of the first closer, or None."""
    def close(self, code: int, culprit: int) -> bool:
        """Close the arena and wake everybody; True for the first closer, whose code and culprit stay. Idempotent."""
    def progress(self, participant: int) -> memoryview:
        """The participant's own cache line: eight writable uint64 words (format "Q"), shared by all."""
    def set_state(self, participant: int, state: int) -> None:
        """Set the participant's state word and wake who waits for it."""
    def state(self, participant: int) -> int: ...
    def wait_state(self, participant: int, state: int, timeout: float) -> bool:
        """Wait until the state word is at least `state`; False at time-out. Works on a closed arena."""
    def writer(self, ring: int) -> Writer:
        """The one writer of a ring, owned by the calling process until it is dropped.

        Raises `RuntimeError` while a living process has the ring's writer, `IndexError` where there is no such ring.
        """
    def reader(self, ring: int, rank: int) -> Reader:
        """The one reader of that rank, as `writer`. It goes on where an earlier reader of the rank has stopped."""

class Writer:
    def write(self, kind: int, data: Buffer, buffers: Sequence[Buffer] = (), timeout: float = -1.0) -> None:
        """Publish one message: a 32-bit `kind`, an in-band blob and out-of-band contiguous buffers.

        Small messages lie in the slot; larger ones in a segment. A buffer inside a live `reserve` of this writer is
        not copied. Raises `ChannelTimeout`, `ChannelClosed`, `ChannelMemory`; after an error nothing was published.
        """
    def reserve(self, nbytes: int, timeout: float = -1.0) -> memoryview:
        """A writable view (64-byte aligned) of a fresh segment, to be filled in place and passed to `write`.

        The segment is used for nothing else while a view of it is alive. What is written into it after `write` is seen
        by the readers. It can be sent again: without a copy once all readers have dropped it, with a copy before.
        Raises as `write` does.
        """
    @property
    def published(self) -> int: ...
    def lag(self) -> tuple[int, ...]:
        """Messages published and not yet consumed, per reader."""

class Reader:
    def read(self, timeout: float = -1.0) -> tuple[int, bytes | memoryview, list[memoryview]]:
        """Take the next message: (kind, in-band blob, out-of-band buffers).

        Small blobs are private copies (`bytes`), small buffers too; large ones are read-only views of shared memory,
        and each keeps the message's lease until the last view of it is gone. A reader that keeps 16 leases of a ring
        (fewer with several readers) gets private copies of what follows, so that leases alone never stop a writer.
        The ring's slot is released before this returns. Raises `ChannelTimeout` (nothing consumed), `ChannelClosed` (after all published messages have
        been consumed), `ChannelCorrupt`.
        """
    def skip(self, timeout: float = -1.0) -> None:
        """Consume the next message without looking at it."""
    def ready(self) -> bool: ...
    @property
    def consumed(self) -> int: ...

def map_private(view: memoryview) -> memoryview:
    """A writable copy-on-write mapping of a view returned by `Reader.read`, which keeps the lease too.

    Writes stay private to this view: neither other readers nor the writer see them. For consumers that cannot be made
    read-only (torch). A view that is a private copy already is returned writable without a mapping.
    """

def memcpy_threshold() -> int:
    """Bytes from which a buffer is handed out as a shared view instead of a copy."""
