"""`ptb.models.gru_steps` by Triton, a kernel for each function.

On a GPU kernels as small as these take longer to start than to run. Importing this needs Triton,
which comes with torch for GPUs on Linux. Triton compiles a kernel when it is first used, and needs
a C compiler then.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

BLOCK = 256  # columns that one program computes


# ---------------------------------------------------------------- as gru_steps has them
def reset(rz: Tensor, r: Tensor, z: Tensor, h: Tensor, rh: Tensor) -> None:
    _launch(_reset, r, z, h, rh)


def update(n: Tensor, z: Tensor, h: Tensor, after: Tensor) -> None:
    _launch(_update, n, z, h, after)


def update_backward(to_n: Tensor, to_z: Tensor, dafter: Tensor, dn: Tensor, dz: Tensor) -> None:
    _launch(_update_backward, to_n, to_z, dafter, dn, dz)


def reset_backward(
    to_r: Tensor, r: Tensor, z: Tensor, drh: Tensor, dafter: Tensor, dr: Tensor, dh: Tensor
) -> None:
    _launch(_reset_backward, to_r, r, z, drh, dafter, dr, dh)


def try_out(device: torch.device) -> None:
    """Compiles a kernel and runs it; raises whatever stands in the way."""
    r, z, h, rh = torch.zeros(4, 1, 1, device=device)
    reset(r, r, z, h, rh)


def _launch(kernel, *tensors: Tensor) -> None:
    """A program for each row and each BLOCK of its columns; the numbers of a row are neighbours."""
    rows, size = tensors[0].shape
    strides = [tensor.stride(0) for tensor in tensors]
    kernel[rows, triton.cdiv(size, BLOCK)](*tensors, *strides, size, BLOCK)


# ---------------------------------------------------------------- the kernels
@triton.jit
def _columns(BLOCK: tl.constexpr):
    return tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)


@triton.jit
def _mine(tensor, stride, BLOCK: tl.constexpr):
    """Where this program's numbers of a tensor are: those of its row and its columns."""
    return tensor + tl.program_id(0) * stride + _columns(BLOCK)


@triton.jit
def _reset(r, z, h, rh, r_row, z_row, h_row, rh_row, size, BLOCK: tl.constexpr):
    inside = _columns(BLOCK) < size
    r, z = _mine(r, r_row, BLOCK), _mine(z, z_row, BLOCK)
    h, rh = _mine(h, h_row, BLOCK), _mine(rh, rh_row, BLOCK)
    opened = tl.sigmoid(tl.load(r, inside))
    tl.store(r, opened, inside)
    tl.store(z, tl.sigmoid(tl.load(z, inside)), inside)
    tl.store(rh, opened * tl.load(h, inside), inside)


@triton.jit
def _update(n, z, h, after, n_row, z_row, h_row, after_row, size, BLOCK: tl.constexpr):
    inside = _columns(BLOCK) < size
    n, z = _mine(n, n_row, BLOCK), _mine(z, z_row, BLOCK)
    h, after = _mine(h, h_row, BLOCK), _mine(after, after_row, BLOCK)
    new = libdevice.tanh(tl.load(n, inside))
    tl.store(n, new, inside)
    tl.store(after, new + tl.load(z, inside) * (tl.load(h, inside) - new), inside)


@triton.jit
def _update_backward(
    to_n, to_z, dafter, dn, dz, to_n_row, to_z_row, dafter_row, dn_row, dz_row, size,
    BLOCK: tl.constexpr,
):  # fmt: skip
    inside = _columns(BLOCK) < size
    gradient = tl.load(_mine(dafter, dafter_row, BLOCK), inside)
    to_n = tl.load(_mine(to_n, to_n_row, BLOCK), inside)
    to_z = tl.load(_mine(to_z, to_z_row, BLOCK), inside)
    tl.store(_mine(dn, dn_row, BLOCK), to_n * gradient, inside)
    tl.store(_mine(dz, dz_row, BLOCK), to_z * gradient, inside)


@triton.jit
def _reset_backward(
    to_r, r, z, drh, dafter, dr, dh, to_r_row, r_row, z_row, drh_row, dafter_row, dr_row, dh_row,
    size, BLOCK: tl.constexpr,
):  # fmt: skip
    inside = _columns(BLOCK) < size
    to_r = tl.load(_mine(to_r, to_r_row, BLOCK), inside)
    r = tl.load(_mine(r, r_row, BLOCK), inside)
    z = tl.load(_mine(z, z_row, BLOCK), inside)
    drh = tl.load(_mine(drh, drh_row, BLOCK), inside)
    dafter = tl.load(_mine(dafter, dafter_row, BLOCK), inside)
    dh = _mine(dh, dh_row, BLOCK)
    tl.store(_mine(dr, dr_row, BLOCK), to_r * drh, inside)
    tl.store(dh, tl.load(dh, inside) + z * dafter + r * drh, inside)
