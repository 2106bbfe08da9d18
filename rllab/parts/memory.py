"""Memory of the process."""

from __future__ import annotations

import torch


def keep_freed_memory() -> None:
    """Let the C library keep what tensors free, up to some 64 MB, instead of giving it back to the system each time.

    With glibc, arrays of more than 128 kB come from the system and go back to it, page by page, and what is free at
    the end of the heap does likewise. Layers of 256 units and batches of 256 have the system make 600 pages a gradient
    step, which takes a tenth of its time. glibc raises both limits to what it has seen being freed, so one large
    tensor, which is never written to and so takes no memory, does. Elsewhere this does nothing.
    """
    torch.empty(31 << 20, dtype=torch.uint8)  # 32 MB is the most that it raises them to
