"""
The native core: shared-memory arenas, rings, segments and leases (no pickle, no Ray; bytes in, bytes out).

An arena is one anonymous file that holds all rings of a graph. A ring takes messages from one writer to n readers,
each of which gets every message, in order; `slots` of them may be on their way. A part of a message (the in-band blob,
or an out-of-band buffer) of `memcpy_threshold()` bytes or more lies in a segment, and readers get views of it; what is
smaller lies in the slot, and readers get copies.

Time-outs are seconds: negative waits for ever, 0 tries once. Every call that may wait releases the GIL, wakes within
milliseconds of `Arena.close`, and is interruptible by Python signal handlers (Ctrl-C) when called on the main thread.

A writer or reader is used by one thread at a time (`RuntimeError` otherwise) and not in a forked child. Everything
else may be used from any thread; views may be dropped anywhere, at any time, also after their reader and arena.
"""

from collections.abc import Sequence
from typing import TypeAlias, final

from typing_extensions import Buffer

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

ArenaHandle: TypeAlias = tuple[int, int, int, int]
"""(pid of the creator, its descriptor, inode, random cookie): picklable, valid until `release_handle`."""

@final
class Arena:
    """All rings of one graph in one anonymous shared-memory file (mode 0600, never a name in any file system)."""

    @staticmethod
    def create(
        rings: Sequence[tuple[int, int, int]], participants: int, max_bytes: int = 0, spin_us: int = -1
    ) -> Arena:
        """
        Create and map an arena. `rings`: (readers, slots, slot bytes) each; `participants`: progress lines.

        `max_bytes`: limit for arena and segments together, 0 for none. `spin_us`: length of the yield phase before
        a waiter sleeps, negative for the default. Raises `ChannelMemory`, and `ValueError` where a ring has not 1 to
        383 readers and 1 to 2**20 slots. All pages are reserved, so that a later access never faults with SIGBUS.
        """

    @staticmethod
    def attach(handle: ArenaHandle) -> Arena:
        """
        Map an arena of another process of the same user.

        Raises `OSError` when that process has ended or has released the handle, `ChannelCorrupt` when the handle leads
        to something else by now, or to an arena of another version of cgc.
        """

    @property
    def handle(self) -> ArenaHandle:
        """What another process attaches with. Raises `RuntimeError` on the creator after `release_handle`."""

    def release_handle(self) -> None:
        """Close the creator's offered descriptor: nobody can attach any more; mappings stay. Idempotent."""

    @property
    def nbytes(self) -> int:
        """Bytes of the arena and of all live segments of its rings."""

    @property
    def closed(self) -> tuple[int, int] | None:
        """(code, culprit) of the first closer, or None."""

    def close(self, code: int, culprit: int) -> bool:
        """
        Close the arena and wake everybody; True for the first closer, whose code and culprit stay. Idempotent.

        `code` has 31 bits and is not negative (`ValueError`), `culprit` has 32 bits and a sign.
        """

    def progress(self, participant: int) -> memoryview:
        """The participant's own cache line: eight writable uint64 words (format "Q"), shared by all."""

    def set_state(self, participant: int, state: int) -> None:
        """Set the participant's state word (signed, 64 bits) and wake who waits for it."""

    def state(self, participant: int) -> int:
        """The participant's state word, 0 at first."""

    def wait_state(self, participant: int, state: int, timeout: float) -> bool:
        """Wait until the state word is at least `state`; False at time-out. Works on a closed arena."""

    def writer(self, ring: int) -> Writer:
        """
        The one writer of a ring, owned by the calling process until it is dropped.

        Raises `RuntimeError` while a living process has the ring's writer, `IndexError` where there is no such ring.
        """

    def reader(self, ring: int, rank: int) -> Reader:
        """The one reader of that rank, as `writer`. It goes on where an earlier reader of the rank has stopped."""

    def offer_pages(self) -> bool:
        """
        Let devices of this process register the pages of segments: `pages_of` finds those that are mapped from now on.

        False, and nothing is done, for an arena with a limit on its memory: what waits for a device keeps segments.
        From here on no range of the file is used twice, by any process.
        """

@final
class Writer:
    """The writing side of a ring, made by `Arena.writer`."""

    def write(self, kind: int, data: Buffer, buffers: Sequence[Buffer] = (), timeout: float = -1.0) -> None:
        """
        Publish one message: a 32-bit `kind`, an in-band blob and out-of-band contiguous buffers.

        A buffer inside a live `reserve` of this writer is not copied. Raises `TypeError` for what is not a contiguous
        buffer, `ChannelTimeout` while a reader is `slots` messages behind or all memory is leased, `ChannelClosed`,
        `ChannelMemory`; after an error nothing was published, and the writer can be used on.
        """

    def reserve(self, nbytes: int, timeout: float = -1.0) -> memoryview:
        """
        A writable view (64-byte aligned) of a fresh segment, to be filled in place and passed to `write`.

        The segment is used for nothing else while a view of it is alive. What is written into it after `write` is seen
        by the readers. It can be sent again: without a copy once all readers have dropped it, with a copy before.
        Raises as `write` does.
        """

    @property
    def published(self) -> int:
        """Messages written so far."""

    def lag(self) -> tuple[int, ...]:
        """Messages published and not yet consumed, per reader."""

@final
class Reader:
    """The reading side of a ring for one rank, made by `Arena.reader`."""

    def read(self, timeout: float = -1.0) -> tuple[int, bytes | memoryview, list[memoryview]]:
        """
        Take the next message: (kind, in-band blob, out-of-band buffers).

        Small blobs are private copies (`bytes`), small buffers too; large ones are read-only views of shared memory,
        and each keeps its segment's lease until the last view of it is gone. A reader that keeps 16 leases of a ring
        (with several readers, its share of 16, at least one) gets private copies of what follows, and so does every
        reader while more than half of the arena's `max_bytes` is in use, so that leases alone never stop a writer. The
        ring's slot is released before this returns. Raises `ChannelTimeout` (nothing consumed), `ChannelClosed` (after
        all published messages have been consumed), `ChannelCorrupt`.
        """

    def skip(self, timeout: float = -1.0) -> None:
        """Consume the next message without looking at it. Raises as `read` does."""

    def ready(self) -> bool:
        """Whether `read` would return a message at once; False on a closed and drained ring."""

    @property
    def consumed(self) -> int:
        """Messages taken so far."""

def map_private(view: memoryview) -> memoryview:
    """
    A writable copy-on-write mapping of a view returned by `Reader.read`, which keeps the lease too.

    Writes stay private to this view: neither other readers nor the writer see them. For consumers that cannot be made
    read-only (torch). Small views are copied instead, and one that is a private copy already may be returned as it is.
    """

def pages_of(buffer: Buffer) -> tuple[int, int] | None:
    """
    The mapping of a segment that a contiguous buffer lies in: its address, and the buffer's offset in it, in bytes.

    None for all other memory, and for segments of arenas that do not offer their pages. Raises TypeError as `write`.
    """

def keep_pages(buffer: Buffer) -> memoryview:
    """
    All of that mapping, which is not unmapped any more before `unmap_pages`. Idempotent. ValueError if there is none.

    The result does not keep the mapping's memory: it may be used while the buffer lives, or until `unmap_pages`.
    """

def retired_pages(timeout: float = -1.0) -> list[int]:
    """
    Addresses of the kept mappings that have lost their last user since the last call; waits for one.

    Of a forked child's own mappings only. The caller ends their registrations, then calls `unmap_pages` for each.
    """

def unmap_pages(address: int) -> None:
    """Unmap what `retired_pages` has told. Raises ValueError for anything else."""

def memcpy_threshold() -> int:
    """Bytes from which a buffer is handed out as a shared view instead of a copy."""
