"""The precision of matrix products: exact float32, or faster and rounded on hardware that can.

"tf32", on a GPU since NVIDIA's Ampere, rounds what goes into a product to 11 significant bits;
"bfloat16", on a CPU with AMX or AVX512-BF16, to 8. Sums, and everything that is no product, stay
float32. torch keeps the choice for the whole process.

With AMX torch rounds float32 products by itself. With AVX512-BF16 alone it does not:
`ptb.models.matmul` then has it multiply bfloat16 matrices, whose sums are rounded to bfloat16 once
more at their end; products with a state, torch's own LSTM layers and its attention stay in float32.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from ptb.errors import SettingError

TORCHS = {"float32": "highest", "tf32": "high", "bfloat16": "medium"}  # torch's names for them


def current_precision() -> str:
    """The precision of products in this process, by our name."""
    names = {theirs: ours for ours, theirs in TORCHS.items()}
    return names[torch.get_float32_matmul_precision()]


@contextmanager
def use_precision(name: str, device: str) -> Iterator[None]:
    """A context in which products have that precision; raises SettingError where they can't."""
    check_precision(name, device)
    with _told(name):
        yield


def check_precision(name: str, device: str) -> None:
    """Raises SettingError unless the device, "cpu" or "cuda", has products of that precision."""
    if name == "tf32" and device != "cuda":
        raise SettingError(
            f"precision = 'tf32' is for a GPU, not device = {device!r}: use 'float32', on a CPU "
            "that has the units 'bfloat16', or device = 'cuda'"
        )
    if name == "tf32" and not torch.cuda.is_tf32_supported():
        raise SettingError(
            "precision = 'tf32' needs a GPU of NVIDIA's Ampere or later: use 'float32'"
        )
    if name == "bfloat16" and device != "cpu":
        raise SettingError(
            f"precision = 'bfloat16' is for a CPU, not device = {device!r}: use 'tf32' or 'float32'"
        )
    if name == "bfloat16" and not rounds_to_bfloat16():
        raise SettingError(
            "precision = 'bfloat16' needs a CPU with AMX or AVX512-BF16, of which this one's "
            "products make no use: use 'float32'"
        )


def rounds_to_bfloat16() -> bool:
    """Whether products here can be in bfloat16: the CPU has units for it, or torch rounds."""
    units = torch.cpu.get_capabilities().get("avx512_bf16", False)
    return (units and torch.backends.mkldnn.is_available()) or torch_rounds_to_bfloat16()


@cache
def torch_rounds_to_bfloat16() -> bool:
    """Whether torch rounds float32 products when asked: tried, since its flag promises nothing.

    A product of matrices full of 1 + 2⁻¹⁰, which bfloat16 rounds to 1, is then a whole number.
    """
    with _told("bfloat16"):
        ones = torch.full((64, 64), 1 + 2**-10)
        return bool((ones @ ones == 64).all())


@contextmanager
def _told(name: str) -> Iterator[None]:
    """A context in which torch is told a precision; after it, what it was told before."""
    cudnn, rnn = torch.backends.cudnn, torch.backends.mkldnn.rnn
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32, rnn.fp32_precision
    torch.set_float32_matmul_precision(TORCHS[name])
    cudnn.allow_tf32 = name == "tf32"  # torch's default is True
    rnn.fp32_precision = "bf16" if name == "bfloat16" else "ieee"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        cudnn.allow_tf32, rnn.fp32_precision = before[1:]
