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
def _places(size, BLOCK: tl.constexpr):
    """This program's row, its columns, and which of these there are."""
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    return tl.program_id(0), columns, columns < size


@triton.jit
def _reset(r, z, h, rh, r_row, z_row, h_row, rh_row, size, BLOCK: tl.constexpr):
    row, columns, inside = _places(size, BLOCK)
    r += row * r_row + columns
    z += row * z_row + columns
    h += row * h_row + columns
    rh += row * rh_row + columns
    opened = tl.sigmoid(tl.load(r, inside))
    tl.store(r, opened, inside)
    tl.store(z, tl.sigmoid(tl.load(z, inside)), inside)
    tl.store(rh, opened * tl.load(h, inside), inside)


@triton.jit
def _update(n, z, h, after, n_row, z_row, h_row, after_row, size, BLOCK: tl.constexpr):
    row, columns, inside = _places(size, BLOCK)
    n += row * n_row + columns
    z += row * z_row + columns
    h += row * h_row + columns
    after += row * after_row + columns
    new = libdevice.tanh(tl.load(n, inside))
    tl.store(n, new, inside)
    tl.store(after, new + tl.load(z, inside) * (tl.load(h, inside) - new), inside)


@triton.jit
def _update_backward(
    to_n, to_z, dafter, dn, dz, to_n_row, to_z_row, dafter_row, dn_row, dz_row, size,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row, columns, inside = _places(size, BLOCK)
    to_n += row * to_n_row + columns
    to_z += row * to_z_row + columns
    dafter += row * dafter_row + columns
    dn += row * dn_row + columns
    dz += row * dz_row + columns
    gradient = tl.load(dafter, inside)
    tl.store(dn, tl.load(to_n, inside) * gradient, inside)
    tl.store(dz, tl.load(to_z, inside) * gradient, inside)


@triton.jit
def _reset_backward(
    to_r, r, z, drh, dafter, dr, dh, to_r_row, r_row, z_row, drh_row, dafter_row, dr_row, dh_row,
    size, BLOCK: tl.constexpr,
):  # fmt: skip
    row, columns, inside = _places(size, BLOCK)
    to_r += row * to_r_row + columns
    r += row * r_row + columns
    z += row * z_row + columns
    drh += row * drh_row + columns
    dafter += row * dafter_row + columns
    dr += row * dr_row + columns
    dh += row * dh_row + columns
    gradient = tl.load(drh, inside)
    tl.store(dr, tl.load(to_r, inside) * gradient, inside)
    carried = tl.load(z, inside) * tl.load(dafter, inside) + tl.load(r, inside) * gradient
    tl.store(dh, tl.load(dh, inside) + carried, inside)
