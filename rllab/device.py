"""The device manager: which device, how many threads, which precision, and why.

In: an `Inventory` of the machine, what the user asked for, and how much work one update of the method is.
Out: a `Choice` with its reason in words. `choose` is a pure function; only `Inventory.probe`, `select`,
`apply` and the measurements look at the machine, and torch is imported inside functions alone.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from rllab.errors import RunFailed, UsageError, did_you_mean

if TYPE_CHECKING:
    import torch

Precision: TypeAlias = Literal["float32", "tf32"]

# One update (forward, backward, Adam) of a multi-layer perceptron with two hidden layers, float32, torch 2.13
# on two cores of an AMD EPYC; medians, in microseconds. Work is in multiply-adds, backward included.
#
#     hidden, batch      work    1 thread   2 threads   gain
#     64, 64            9.3e5         450         551   0.82
#     64, 256           3.7e6         551         545   1.01
#     256, 64           1.3e7         844         731   1.15
#     256, 128          2.6e7        1154         901   1.28
#     256, 256          5.3e7        1839        1275   1.44
#     512, 256          2.1e8        6721        3945   1.70
#     1024, 256         8.2e8       24887       14878   1.67
#
# What decides against threads for little work is a second run on the same cores, which a lab bench often
# has: with one thread each, both ran as fast as alone (450 and 1900); with two threads each, waiting for one
# another, an update of the first kind took 110,000 and of the fifth 5,000 to 250,000, of the last 45,000.
WORK_PER_THREAD = 2.5e7
"""Multiply-adds of an update for which another thread gains enough, so that the second one comes at 5e7."""

WORK_FOR_GPU = 5e8
"""Multiply-adds from which an update is worth the way to a GPU. Derived, not measured: an update launches a
hundred kernels or so at 5 to 10 microseconds each, and an agent adds copies for every step of its envs; a CPU
core takes about 10 ms for 3e8 multiply-adds, and then neither counts any more."""

TENSOR_CORES = (8, 0)
"""The compute capability (Ampere) from which NVIDIA GPUs multiply in TF32."""

ROOM_NEEDED = 2**30
"""Bytes free below which `auto` does not take a GPU: what CUDA itself takes is half of that."""


@dataclass(frozen=True)
class Cuda:
    """A CUDA device: its index, its name, total and free memory in bytes, its compute capability."""

    index: int
    name: str
    total: int
    free: int
    capability: tuple[int, int]

    def __str__(self) -> str:
        return f"cuda:{self.index} ({self.name}, {_gib(self.free)} of {_gib(self.total)} free)"


@dataclass(frozen=True)
class Inventory:
    """What a machine has.

    Attributes:
        cpu: the processor's name.
        cores: how many this process may use, by affinity, container limit and `OMP_NUM_THREADS`.
        memory_total: bytes this process may have in the end, None if unknown.
        memory_free: bytes it can have now, None if unknown.
        cuda: the CUDA devices that torch can use.
        mps: whether torch can use the GPU of a Mac.
        torch: the version of torch.
        cuda_build: the CUDA (or ROCm) version torch is built for, None for a build without.
    """

    cpu: str
    cores: int
    memory_total: int | None = None
    memory_free: int | None = None
    cuda: tuple[Cuda, ...] = ()
    mps: bool = False
    torch: str = ""
    cuda_build: str | None = None

    @classmethod
    def probe(cls, *, gpus: bool = True) -> Inventory:
        """Look at this machine.

        Args:
            gpus: whether to look for GPUs, which starts CUDA and takes memory on each of them.
        """
        import torch

        total, free = memory()
        return cls(
            cpu=_cpu_name(),
            cores=_cores(),
            memory_total=total,
            memory_free=free,
            cuda=tuple(_cuda_devices()) if gpus else (),
            mps=gpus and torch.backends.mps.is_available(),
            torch=str(torch.__version__),
            cuda_build=torch.version.cuda or torch.version.hip,
        )


@dataclass(frozen=True)
class Choice:
    """Where to train and how: the device as torch writes it, threads on the CPU, precision, the reason."""

    device: str
    threads: int
    precision: Precision
    reason: str

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.device}, {threads}, {self.precision}: {self.reason}"


# --- choosing -------------------------------------------------------------------------------------


def choose(
    inventory: Inventory, requested: str = "auto", work: float | None = None, *, threads: int | None = None
) -> Choice:
    """Return device, threads and precision, and the reason; it depends on nothing but its arguments.

    Args:
        inventory: what the machine has.
        requested: auto, cpu, cuda (the one with the most free memory), cuda:N or mps.
        work: about how many multiply-adds one update takes, backward pass included; None if unknown.
        threads: how many threads to use whatever the work is; None to decide by it.

    Raises:
        UsageError: if what was asked for cannot be had; there is no silent way back to the CPU.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"{threads} threads: it takes at least 1")
    match requested:
        case "auto":
            return _automatic(inventory, work, threads)
        case "cpu":
            count, why = _threads(inventory, work, threads)
            return Choice("cpu", count, "float32", f"asked for; {why}")
        case _ if re.fullmatch(r"cuda(:[0-9]+)?", requested):
            return _on_cuda(_named_cuda(inventory, requested), work, threads, "asked for")
        case "mps":
            if not inventory.mps:
                raise UsageError(
                    "--device mps: this machine has no Apple GPU that torch can use",
                    "It takes a Mac with Apple silicon and macOS 14 or later. Take --device auto or cpu.",
                )
            return Choice("mps", threads or 1, "float32", "asked for")
    near = did_you_mean(requested, ["auto", "cpu", "cuda", "cuda:0", "mps"])
    raise UsageError(f"--device {requested}: it is one of auto, cpu, cuda, cuda:N and mps", near)


def select(requested: str = "auto", work: float | None = None, *, threads: int | None = None) -> Choice:
    """Choose for this machine; GPUs are looked for only where they matter: looking takes time and memory."""
    small = work is not None and work < WORK_FOR_GPU
    gpus = not (requested == "cpu" or (requested == "auto" and small))
    return choose(Inventory.probe(gpus=gpus), requested, work, threads=threads)


def _automatic(inventory: Inventory, work: float | None, threads: int | None) -> Choice:
    count, why = _threads(inventory, work, threads)
    if work is not None and work < WORK_FOR_GPU:
        return Choice("cpu", count, "float32", f"{_describe(work)} is too little for a GPU; {why}")
    if not inventory.cuda:
        also = "; --device mps would try the Apple GPU" if inventory.mps else ""
        return Choice("cpu", count, "float32", f"{_no_gpu(inventory)}; {why}{also}")
    best = max(inventory.cuda, key=lambda device: (device.free, -device.index))
    if best.free < ROOM_NEEDED:
        return Choice("cpu", count, "float32", f"no GPU has {_gib(ROOM_NEEDED)} of memory free; {why}")
    worth = "it is unknown how much work an update is" if work is None else f"{_describe(work)} is worth a GPU"
    most = ", this one has the most memory free" if len(inventory.cuda) > 1 else ""
    return _on_cuda(best, work, threads, worth + most)


def _on_cuda(device: Cuda, work: float | None, threads: int | None, why: str) -> Choice:
    precision: Precision = "float32"
    if device.capability >= TENSOR_CORES and work is not None and work >= WORK_FOR_GPU:
        precision = "tf32"
    # the CPU only launches kernels here
    return Choice(f"cuda:{device.index}", threads or 1, precision, f"{why}; {device.name}, {_gib(device.free)} free")


def _named_cuda(inventory: Inventory, requested: str) -> Cuda:
    _, _, index = requested.partition(":")
    found = [device for device in inventory.cuda if not index or device.index == int(index)]
    if found:
        return max(found, key=lambda device: (device.free, -device.index))
    if inventory.cuda:
        raise UsageError(
            f"--device {requested}: there is no such GPU; there is {', '.join(map(str, inventory.cuda))}",
            "CUDA_VISIBLE_DEVICES decides which GPUs a process sees, and numbers them from 0.",
        )
    if inventory.cuda_build is None:
        hint = "Install a build of torch with CUDA (https://pytorch.org/get-started/locally)"
    else:
        hint = "See what nvidia-smi says and whether CUDA_VISIBLE_DEVICES hides it"
    raise UsageError(f"--device {requested}: {_no_gpu(inventory)}", f"{hint}, or take --device auto or cpu.")


def _threads(inventory: Inventory, work: float | None, threads: int | None) -> tuple[int, str]:
    if threads is not None:
        return threads, f"{threads} CPU thread{'s' * (threads > 1)} asked for"
    if inventory.cores == 1:
        return 1, "there is one CPU core"
    if work is None:
        # one thread can cost as many times as there are cores; too many cost 200 times beside another run
        return 1, "one CPU thread, as it is unknown how much work an update is"
    if work < 2 * WORK_PER_THREAD:
        return 1, "one CPU thread is fastest"
    count = min(inventory.cores, int(work / WORK_PER_THREAD))
    return count, f"{count} of {inventory.cores} CPU cores are of use"


def _no_gpu(inventory: Inventory) -> str:
    if inventory.cuda_build is None:
        return f"torch {inventory.torch} is built without CUDA".replace("  ", " ")
    return f"torch {inventory.torch} (built for CUDA {inventory.cuda_build}) finds no GPU".replace("  ", " ")


def _describe(work: float) -> str:
    digits = ",.0f" if work >= 1e7 else ".1g"
    return f"an update of {work / 1e6:{digits}} million multiply-adds"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


# --- looking at the machine -----------------------------------------------------------------------


def _cuda_devices() -> Iterator[Cuda]:
    import torch

    with warnings.catch_warnings():
        # torch warns about a driver that is too old; that there is no GPU is said where it matters
        warnings.simplefilter("ignore")
        if not torch.cuda.is_available():
            return
        for index in range(torch.cuda.device_count()):
            try:
                free, total = torch.cuda.mem_get_info(index)
                name = torch.cuda.get_device_name(index)
                capability = torch.cuda.get_device_capability(index)
            except RuntimeError:  # held exclusively by another process, or defective: not to be had
                continue
            yield Cuda(index, name, total, free, capability)


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
        if match:
            return match[1].strip()
    return platform.processor() or platform.machine() or "unknown"


def cpus() -> int:
    """Return how many CPU cores this process may use, by affinity and the limits of a container."""
    affinity = getattr(os, "sched_getaffinity", None)  # neither macOS nor Windows has it
    limits = [len(affinity(0)) if affinity else os.cpu_count() or 1]
    limits += [max(1, int(quota)) for quota in _cgroup_cpu_quotas()]
    return min(limits)


def _cores() -> int:
    # torchrun and batch systems give each process its share of threads this way
    with contextlib.suppress(ValueError):
        return min(cpus(), max(1, int(os.environ.get("OMP_NUM_THREADS", ""))))
    return cpus()


def memory() -> tuple[int | None, int | None]:
    """Return total and free memory in bytes, within the limits of a container."""
    total: int | None = None
    free: int | None = None
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}
        total, free = sizes.get("MemTotal"), sizes.get("MemAvailable")
    except (OSError, ValueError, IndexError):
        with contextlib.suppress(ValueError, OSError, AttributeError):
            total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for folder in _cgroups():
        limit, used = _number(folder / "memory.max"), _number(folder / "memory.current")
        if limit is not None and (total is None or limit < total):
            total = int(limit)
            if used is not None:
                free = min(int(limit - used), total if free is None else free)
    return total, free


def _cgroups() -> Iterator[Path]:
    """Yield the control groups (version 2) this process is in, from its own to the root."""
    root = Path("/sys/fs/cgroup")
    try:
        entries = Path("/proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return
    own = next((entry[3:].lstrip("/") for entry in entries if entry.startswith("0::")), None)
    if own is None:
        return
    folder = root / own
    # in a container the path may be that of the host: then only the root is there
    yield from (path for path in (folder, *folder.parents) if path.is_relative_to(root) and path.is_dir())


def _cgroup_cpu_quotas() -> Iterator[float]:
    for folder in _cgroups():
        with contextlib.suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text("ascii").split()
            if quota != "max":
                yield float(quota) / float(period)


def _number(path: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        return float(path.read_text("ascii"))
    return None


# --- taking effect --------------------------------------------------------------------------------


def apply(choice: Choice, deterministic: bool = False) -> torch.device:
    """Set torch's threads, precision and determinism for this process and return the device.

    Args:
        choice: as from `choose`.
        deterministic: whether results are to be bit-equal also on a GPU; an operation that cannot raises.
    """
    # cuBLAS reads it once, when it starts
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(choice.threads)
    threadpool_limits(choice.threads, user_api="blas")  # NumPy's
    # the moments of Adam decay for ever where a unit is dead, and CPUs compute slowly with what is nearly zero
    torch.set_flush_denormal(True)
    reduced = choice.precision != "float32"
    torch.set_float32_matmul_precision("high" if reduced else "highest")
    torch.backends.cudnn.allow_tf32 = reduced
    if torch.are_deterministic_algorithms_enabled() != deterministic:  # the call imports torch's compiler: a second
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    return torch.device(choice.device)


def memory_metrics(device: torch.device) -> dict[str, float]:
    """Return memory in MiB: `time/memory_mb` of this process now, `time/gpu_memory_mb` at its highest."""
    found: dict[str, float] = {}
    resident = _resident()
    if resident is not None:
        found["time/memory_mb"] = resident / 2**20
    if device.type == "cuda":
        import torch

        found["time/gpu_memory_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
    return found


def _resident() -> int | None:
    """Return the resident memory of this process in bytes; where it is unknown, its highest so far."""
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
        return int(os.pread(_statm(os.getpid()), 100, 0).split()[1]) * os.sysconf("SC_PAGE_SIZE")
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@functools.cache
def _statm(process: int) -> int:
    """Return a file that stays open: between two steps, opening it takes a hundred microseconds."""
    return os.open(f"/proc/{process}/statm", os.O_RDONLY)


_ASKED_FOR = re.compile(r"allocate ([\d.]+) ?(bytes|[KMGT]i?B)", re.IGNORECASE)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; torch raises a plain RuntimeError on the CPU."""
    if isinstance(error, RuntimeError):  # torch.OutOfMemoryError is one
        return "out of memory" in str(error) or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError)


def explain_out_of_memory(error: BaseException) -> RunFailed:
    """Return the error that says how much memory was asked for, and what to lower."""
    text = str(error)
    match = _ASKED_FOR.search(text)
    asked = ""
    if match:
        size = _gib(int(match[1])) if match[2] == "bytes" else f"{match[1]} {match[2]}"
        asked = f": {size} more were asked for"
    if isinstance(error, RuntimeError) and "out of memory" in text:
        lower = "Lower --batch-size, --num-envs or the network's --hidden, or take --device cpu."
        return RunFailed(f"the memory of the GPU is used up{asked}", lower)
    lower = "Lower --batch-size, --num-envs, --buffer-size or the network's --hidden."
    return RunFailed(f"the memory of this machine is used up{asked}", lower)
