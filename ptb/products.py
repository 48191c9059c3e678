"""The matrix product that everything here waits for.

torch's CPU build multiplies float32 matrices with MKL, which is held back on processors that are
not Intel's; the oneDNN that the same build carries is not (twice as fast on an AMD EPYC with
AVX-512). `product` takes oneDNN where it applies. Both are exact float32.
"""

import torch
from torch import Tensor


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a @ b + bias for a (M, K), b (K, N), bias (N,); fastest where a and b are contiguous.

    Not differentiable.
    """
    if a.dtype == torch.float32 and a.device.type == "cpu" and torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._linear_pointwise.default(a, b.T, bias, "none", [], "")
    return a @ b if bias is None else torch.addmm(bias, a, b)
