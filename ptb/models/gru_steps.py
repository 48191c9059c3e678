"""The element-wise steps of the GRU whose reset comes before, one time step's each, in place.

All tensors are (B, H) and may be views of wider ones; r, z and n hold pre-activations at first.
`ptb.models.fused_gru_steps` has the same functions in one kernel each.
"""

import torch
from torch import Tensor


def reset(rz: Tensor, r: Tensor, z: Tensor, h: Tensor, rh: Tensor) -> None:
    """r = σ(r), z = σ(z) and rh = r h; rz (B, 2H) is r and z side by side."""
    rz.sigmoid_()
    torch.mul(r, h, out=rh)


def update(n: Tensor, z: Tensor, h: Tensor, after: Tensor) -> None:
    """n = tanh(n) and after = n + z (h − n), the new state."""
    n.tanh_()
    torch.lerp(n, h, z, out=after)


def update_backward(to_n: Tensor, to_z: Tensor, dafter: Tensor, dn: Tensor, dz: Tensor) -> None:
    """dn = to_n dafter and dz = to_z dafter: the gradients of n's and z's pre-activations."""
    torch.mul(to_n, dafter, out=dn)
    torch.mul(to_z, dafter, out=dz)


def reset_backward(
    to_r: Tensor, r: Tensor, z: Tensor, drh: Tensor, dafter: Tensor, dr: Tensor, dh: Tensor
) -> None:
    """dr = to_r drh, of r's pre-activation, and dh += z dafter + r drh."""
    torch.mul(to_r, drh, out=dr)
    dh.addcmul_(dafter, z).addcmul_(drh, r)
