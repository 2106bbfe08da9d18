import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from rllab import device
from rllab.device import Choice, Cuda, Inventory, choose
from rllab.errors import UsageError

GIB = 2**30
SMALL, MEDIUM, LARGE, HUGE = 1e6, 1e8, 1e9, 1e12

LAPTOP = Inventory("a CPU", 8, 16 * GIB, 8 * GIB, torch="2.13.0+cpu")
OLD = Cuda(0, "GTX 1080", 8 * GIB, 7 * GIB, (6, 1))
BUSY = Cuda(0, "A100", 40 * GIB, 2 * GIB, (8, 0))
IDLE = Cuda(1, "A100", 40 * GIB, 39 * GIB, (8, 0))
SERVER = replace(LAPTOP, cuda=(BUSY, IDLE), torch="2.13.0", cuda_build="12.8")
MAC = replace(LAPTOP, mps=True, torch="2.13.0")


@pytest.fixture
def settings() -> Iterator[None]:
    """Put torch's global settings back, and NumPy's threads."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    deterministic = torch.are_deterministic_algorithms_enabled()
    cudnn = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    with threadpool_limits(1, user_api="blas"):
        yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = cudnn
    if workspace is None:
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


# --- what auto picks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("inventory", [LAPTOP, SERVER, MAC])
def test_a_small_network_goes_to_the_cpu_with_one_thread(inventory: Inventory) -> None:
    choice = choose(inventory, work=SMALL)
    assert (choice.device, choice.threads, choice.precision) == ("cpu", 1, "float32")
    assert choice.reason == ("an update of 1 million multiply-adds is too little for a GPU; one CPU thread is fastest")


def test_a_large_network_goes_to_the_gpu_with_the_most_memory_free() -> None:
    choice = choose(SERVER, work=LARGE)
    assert (choice.device, choice.threads, choice.precision) == ("cuda:1", 1, "tf32")
    assert choice.reason == (
        "an update of 1,000 million multiply-adds is worth a GPU, this one has the most memory free; "
        "A100, 39.0 GiB free"
    )


def test_work_of_unknown_size_goes_to_a_gpu_in_full_precision() -> None:
    choice = choose(SERVER)
    assert (choice.device, choice.precision) == ("cuda:1", "float32")
    assert "unknown" in choice.reason


def test_work_of_unknown_size_takes_one_thread_without_a_gpu() -> None:
    assert choose(LAPTOP).threads == 1


@pytest.mark.parametrize(("work", "threads"), [(4e7, 1), (5e7, 2), (MEDIUM, 4), (LARGE, 8), (HUGE, 8)])
def test_threads_grow_with_the_work_up_to_all_cores(work: float, threads: int) -> None:
    choice = choose(LAPTOP, work=work)
    assert (choice.device, choice.threads) == ("cpu", threads)


def test_a_large_network_without_a_gpu_says_why_it_is_on_the_cpu() -> None:
    assert choose(LAPTOP, work=LARGE).reason == ("torch 2.13.0+cpu is built without CUDA; 8 of 8 CPU cores are of use")
    assert "finds no GPU" in choose(replace(SERVER, cuda=()), work=LARGE).reason


def test_a_gpu_whose_memory_is_taken_is_left_alone() -> None:
    full = replace(SERVER, cuda=(replace(BUSY, free=GIB // 2),))
    choice = choose(full, work=LARGE)
    assert choice.device == "cpu"
    assert "no GPU has 1.0 GiB of memory free" in choice.reason


def test_of_two_gpus_alike_the_first_is_taken() -> None:
    alike = replace(SERVER, cuda=(replace(IDLE, index=0), IDLE))
    assert choose(alike, work=LARGE).device == "cuda:0"


def test_a_mac_is_told_how_to_try_its_gpu() -> None:
    choice = choose(MAC, work=LARGE)
    assert choice.device == "cpu"
    assert choice.reason.endswith("--device mps would try the Apple GPU")


@pytest.mark.parametrize(
    ("gpu", "work", "precision"),
    [
        (OLD, HUGE, "float32"),
        (replace(OLD, capability=(7, 5)), LARGE, "float32"),
        (IDLE, SMALL, "float32"),
        (IDLE, LARGE, "tf32"),
        (IDLE, HUGE, "tf32"),
        (replace(IDLE, capability=(9, 0)), HUGE, "tf32"),
    ],
)
def test_reduced_precision_is_for_large_work_on_hardware_that_has_it(gpu: Cuda, work: float, precision: str) -> None:
    assert choose(replace(SERVER, cuda=(gpu,)), "cuda", work).precision == precision


def test_one_core_is_one_thread_whatever_the_work() -> None:
    assert choose(replace(LAPTOP, cores=1), work=HUGE).threads == 1


def test_threads_asked_for_are_taken() -> None:
    assert choose(LAPTOP, work=SMALL, threads=3).threads == 3
    with pytest.raises(UsageError, match="0 threads: it takes at least 1"):
        choose(LAPTOP, threads=0)


# --- what was asked for -------------------------------------------------------------------------------------


def test_the_cpu_is_taken_where_it_is_asked_for() -> None:
    assert choose(SERVER, "cpu", HUGE).device == "cpu"


def test_a_gpu_is_taken_where_it_is_asked_for_however_small_the_work() -> None:
    assert choose(SERVER, "cuda", SMALL).device == "cuda:1"
    assert choose(SERVER, "cuda:0", SMALL).device == "cuda:0"
    assert choose(MAC, "mps", SMALL) == Choice("mps", 1, "float32", "asked for")


def test_cuda_without_a_cuda_build_says_which_build_there_is() -> None:
    with pytest.raises(UsageError) as caught:
        choose(LAPTOP, "cuda")
    assert str(caught.value) == (
        "--device cuda: torch 2.13.0+cpu is built without CUDA\n"
        "Install a build of torch with CUDA (https://pytorch.org/get-started/locally), "
        "or take --device auto or cpu."
    )
    assert caught.value.exit_code == 2


def test_cuda_without_a_gpu_says_where_to_look() -> None:
    with pytest.raises(UsageError, match=r"built for CUDA 12\.8\) finds no GPU\n.*nvidia-smi"):
        choose(replace(SERVER, cuda=()), "cuda:0", LARGE)


def test_a_gpu_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(UsageError) as caught:
        choose(replace(SERVER, cuda=(BUSY,)), "cuda:3")
    assert caught.value.message == (
        "--device cuda:3: there is no such GPU; there is cuda:0 (A100, 2.0 GiB of 40.0 GiB free)"
    )


def test_mps_without_an_apple_gpu_is_an_error() -> None:
    with pytest.raises(UsageError, match="no Apple GPU"):
        choose(SERVER, "mps")


@pytest.mark.parametrize("requested", ["gpu", "cuda:", "cuda:-1", "cuda:one", "cpu:0", "", "CUDA"])
def test_a_device_that_is_none_is_answered_with_what_there_can_be(requested: str) -> None:
    with pytest.raises(UsageError, match="it is one of auto, cpu, cuda, cuda:N and mps"):
        choose(SERVER, requested)


# --- this machine -------------------------------------------------------------------------------------------


def test_the_inventory_of_this_machine_is_plausible() -> None:
    inventory = Inventory.probe()
    assert inventory.cpu
    assert 1 <= inventory.cores <= (os.cpu_count() or 1)
    assert inventory.torch == torch.__version__
    if sys.platform == "linux":
        assert inventory.memory_total is not None
        assert inventory.memory_free is not None
        assert 0 < inventory.memory_free <= inventory.memory_total


def test_the_share_that_a_batch_system_gives_limits_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert Inventory.probe().cores == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "nonsense")
    assert Inventory.probe().cores >= 1


def test_the_limits_of_a_container_are_those_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "pod"
    inner.mkdir()
    (inner / "cpu.max").write_text("max 100000\n")
    (inner / "memory.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text(f"{64 * 2**20}\n")
    (tmp_path / "memory.current").write_text(f"{40 * 2**20}\n")
    monkeypatch.setattr(device, "_cgroups", lambda: iter([inner, tmp_path]))
    inventory = Inventory.probe(gpus=False)
    assert inventory.cores == 1
    assert inventory.memory_total == 64 * 2**20
    assert inventory.memory_free == 24 * 2**20


@pytest.mark.parametrize(
    ("requested", "work", "looked"), [("auto", SMALL, False), ("cpu", None, False), ("auto", None, True)]
)
def test_gpus_are_looked_for_only_where_they_matter(
    monkeypatch: pytest.MonkeyPatch, requested: str, work: float | None, looked: bool
) -> None:
    asked: list[bool] = []

    def probe(*, gpus: bool) -> Inventory:
        asked.append(gpus)
        return LAPTOP

    monkeypatch.setattr(Inventory, "probe", probe)
    assert device.select(requested, work).device == "cpu"
    assert asked == [looked]


@pytest.mark.usefixtures("settings")
def test_applying_a_choice_sets_threads_and_precision() -> None:
    assert device.apply(Choice("cpu", 1, "float32", "")) == torch.device("cpu")
    assert torch.get_num_threads() == 1
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.are_deterministic_algorithms_enabled()
    assert device.apply(Choice("cuda:1", 1, "tf32", "")) == torch.device("cuda", 1)
    assert torch.get_float32_matmul_precision() == "high"
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("threads", [2, 1])
def test_the_threads_are_those_of_torch_and_of_numpy(threads: int) -> None:
    device.apply(Choice("cpu", threads, "float32", ""))
    assert torch.get_num_threads() == threads
    pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    assert pools == [threads] * len(pools)  # none where NumPy computes with a library that has no such setting


@pytest.mark.usefixtures("settings")
def test_deterministic_runs_use_deterministic_algorithms_alone() -> None:
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    device.apply(Choice("cpu", 1, "float32", ""), deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.deterministic
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_memory_is_a_metric() -> None:
    metrics = device.memory_metrics(torch.device("cpu"))
    assert set(metrics) == {"time/memory_mb"}
    assert 10 < metrics["time/memory_mb"] < 1e6


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="the memory at this moment is known on Linux alone")
def test_memory_is_that_of_this_moment_and_not_the_highest_so_far() -> None:
    def megabytes() -> float:
        return device.memory_metrics(torch.device("cpu"))["time/memory_mb"]

    before = megabytes()
    large = np.ones(200_000_000, np.uint8)
    assert 150 < megabytes() - before < 250
    del large
    assert megabytes() - before < 50


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="open files can be counted on Linux alone")
def test_asking_for_the_memory_again_and_again_opens_nothing_more() -> None:
    device.memory_metrics(torch.device("cpu"))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        device.memory_metrics(torch.device("cpu"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_where_the_memory_of_this_moment_is_unknown_the_highest_so_far_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError("there is no /proc")

    monkeypatch.setattr(os, "pread", refuse, raising=False)
    if sys.platform == "win32":
        assert device.memory_metrics(torch.device("cpu")) == {}
    else:
        assert 10 < device.memory_metrics(torch.device("cpu"))["time/memory_mb"] < 1e6


# --- running out of memory ----------------------------------------------------------------------------------


def test_a_full_gpu_says_what_was_asked_for_and_what_to_lower() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total of 8 GiB")
    assert device.is_out_of_memory(error)
    assert str(device.explain_out_of_memory(error)) == (
        "the memory of the GPU is used up: 20.00 GiB more were asked for\n"
        "Lower --batch-size, --num-envs or the network's --hidden, or take --device cpu."
    )


def test_a_full_machine_says_what_was_asked_for_and_what_to_lower() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert device.is_out_of_memory(caught.value)
    assert str(device.explain_out_of_memory(caught.value)) == (
        f"the memory of this machine is used up: {2**52 / GIB:.1f} GiB more were asked for\n"
        "Lower --batch-size, --num-envs, --buffer-size or the network's --hidden."
    )


def test_a_memory_error_without_a_size_is_still_explained() -> None:
    assert device.is_out_of_memory(MemoryError())
    assert device.explain_out_of_memory(MemoryError()).message == "the memory of this machine is used up"
    numpys = MemoryError("Unable to allocate 72.8 TiB for an array with shape (10000000000000,)")
    assert "72.8 TiB more" in device.explain_out_of_memory(numpys).message


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    assert not device.is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not device.is_out_of_memory(ValueError("out of memory"))


def test_a_run_that_compiles_nothing_does_not_import_the_compiler() -> None:
    code = (
        "import sys; from rllab import device; from rllab.device import Choice;"
        "device.apply(Choice('cpu', 1, 'float32', '')); sys.exit('torch._inductor' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
