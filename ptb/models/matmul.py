"""The matrix products that everything here waits for.

torch's CPU build multiplies float32 matrices with MKL, which makes no use of AVX-512 on processors
that are not Intel's; the oneDNN that the same build carries does (twice as fast as MKL on an AMD
EPYC with AVX-512, but slower than MKL on an Intel Xeon, and by a tenth to a third on an AMD EPYC
with AVX2 alone). The products below take oneDNN where MKL would be held back. Both are exact
float32, unless `ptb.models.precision` asks for less. With AMX, or on a GPU, torch then rounds what
goes into its own products; with AVX512-BF16 alone it would not, and the entries are turned into
bfloat16 here, but for those of the recurrences. None is differentiable.

Shapes: a (M, K), b (K, N), bias (N,); fastest where a and b are contiguous.
"""

import ctypes
import platform
import threading
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ptb.models.precision import TORCHS, torch_rounds_to_bfloat16

CPUINFO = Path("/proc/cpuinfo")


def is_intel() -> bool:
    """Whether the processor is Intel's; on Linux by its own word, elsewhere by the system's."""
    said = CPUINFO.read_text() if CPUINFO.exists() else platform.processor()
    return "GenuineIntel" in said


def mkl_is_held_back() -> bool:
    """Whether MKL leaves units idle: those of AVX-512, on a processor that isn't Intel's."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and not is_intel()


ONEDNN = (
    torch.backends.mkldnn.is_available()
    and torch.backends.mkl.is_available()
    and mkl_is_held_back()
)


def _asked_for(precision: str, a: Tensor) -> bool:
    told = torch.get_float32_matmul_precision() == TORCHS[precision]
    return told and a.dtype == torch.float32 and a.device.type == "cpu"


def _by_casting(a: Tensor) -> bool:
    return _asked_for("bfloat16", a) and not torch_rounds_to_bfloat16()


def _by_onednn(a: Tensor) -> bool:
    """Whether a product whose entries are not cast is oneDNN's."""
    return ONEDNN and (_asked_for("float32", a) or _by_casting(a))


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a @ b + bias."""
    if _by_casting(a):
        found = _of_bfloat16(a, b).float()
        return found if bias is None else found.add_(bias)
    return _uncast_product(a, b, bias)


def _uncast_product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    if _by_onednn(a):
        return torch.ops.mkldnn._linear_pointwise.default(a, b.T, bias, "none", [], "")
    return torch.mm(a, b) if bias is None else torch.addmm(bias, a, b)


def _of_bfloat16(a: Tensor, b: Tensor) -> Tensor:
    """a @ b in bfloat16: torch sums in float32, but has no such product whose result is float32."""
    return torch.mm(a.bfloat16(), b.bfloat16())


def recurrent_product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b of one time step, in float32 where `product` would turn a and b into bfloat16.

    Results that are rounded at every step make a GRU worse: docs/speed.md has the figures.
    """
    return _uncast_product(a, b)


def add_recurrent_product_(total: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """total += a @ b, in the precision of `recurrent_product`."""
    return total.add_(_uncast_product(a, b)) if _by_onednn(a) else total.addmm_(a, b)


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
# in bytes; an older glibc refuses a threshold above the second
LARGEST_BLOCK, LARGEST_BLOCK_OLD_GLIBC = 2**30, 2**25


def keep_memory() -> None:
    """Has glibc keep what is freed for the next step, not give it back to the system.

    A step frees and takes again tens of megabytes, and fresh pages cost a tenth of its time.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    if any(mallopt(M_MMAP_THRESHOLD, n) for n in (LARGEST_BLOCK, LARGEST_BLOCK_OLD_GLIBC)):
        mallopt(M_TRIM_THRESHOLD, LARGEST_BLOCK)  # alone it would freeze the other at 128 kB


@cache  # once for each size
def take_spare_memory(size: int) -> None:
    """Has the process take size bytes at once, which fragments of the heap would take bit by bit.

    glibc can't put an aligned tensor where one of its size was, once the bytes beside it are taken.
    """
    if size < LARGEST_BLOCK:  # a larger one is no part of the heap: it is given back at once
        torch.zeros(size, dtype=torch.uint8)


class _Workspace(threading.local):
    """Memory that is taken again: fresh pages of 28 MB would cost some 7 ms a step."""

    def __init__(self):
        self.tensor = torch.empty(0)

    def __call__(self, rows: int, columns: int, like: Tensor) -> Tensor:
        held = self.tensor
        if held.shape != (rows, columns) or held.dtype != like.dtype:
            self.tensor = like.new_empty(rows, columns)
        return self.tensor


_workspace = _Workspace()


def passing_product(a: Tensor, b: Tensor, bias: Tensor) -> tuple[Tensor, bool]:
    """a @ b + bias, or a @ b where adding would be a pass of its own; and whether it was added.

    Through MKL in memory that the thread's next call may take again. On a GPU never: a captured
    graph would go on writing to memory that was given away.
    """
    if _by_casting(a):
        return _workspace(len(a), b.shape[1], a).copy_(_of_bfloat16(a, b)), False
    if _by_onednn(a) or a.is_cuda:
        return _uncast_product(a, b, bias), True
    return torch.mm(a, b, out=_workspace(len(a), b.shape[1], a)), False
