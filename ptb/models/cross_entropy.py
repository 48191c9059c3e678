"""The output layer and the cross-entropy in one: per token for evaluation, fused for training.

Training forms one (N, V) table and turns it from logits to their exponentials to gradients in
place, in as few passes as there can be; evaluation forms it in chunks of rows and needs the
exponentials' sums alone. Logits are in bits, not nats: torch's 2ˣ is as exact as its eˣ, and four
times as fast on an AMD processor.
"""

import math

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ptb.models.matmul import passing_product, product

CHUNK = 500  # rows of logits in evaluation; 20 MB at 10,000 words
CACHED_ROWS = 40  # of exp(logits); 1.6 MB, which stays in a core's cache
NATS = math.log(2)  # a bit
SAFE = 1e20  # float32 holds sums of exponentials between 1/SAFE and SAFE, and their terms


def _exponentials(hidden, weight, bias, targets, shifted=False) -> tuple[Tensor, Tensor, Tensor]:
    """exp(logits) (N, V), its sums over words (N, 1), the targets' logits (N, 1) in bits.

    shifted: of logits less their row's largest, which no number is too large or too small for.
    """
    bias = bias / NATS
    table, biased = passing_product(hidden / NATS, weight.T, bias)
    sums, chosen = hidden.new_empty(2, len(hidden), 1)
    rows = len(hidden) if hidden.is_cuda else CACHED_ROWS
    for part, y, s, c in zip(*(t.split(rows) for t in (table, targets, sums, chosen)), strict=True):
        if not biased:
            part.add_(bias)
        if shifted:
            part.sub_(part.amax(1, keepdim=True))
        torch.gather(part, 1, y[:, None], out=c)
        torch.sum(part.exp2_(), 1, keepdim=True, out=s)
    return table, sums, chosen


def _safe_exponentials(*case) -> tuple[Tensor, Tensor, Tensor]:
    """The same, shifted where that matters; on a GPU always, since asking would make it wait."""
    if case[0].is_cuda:
        return _exponentials(*case, shifted=True)
    found = _exponentials(*case)
    low, high = found[1].aminmax()
    return found if low > 1 / SAFE and high < SAFE else _exponentials(*case, shifted=True)


@torch.no_grad()
def token_cross_entropies(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Each target's cross-entropy in nats, (N,), from hidden (N, H), weight (V, H), bias (V,).

    It is not differentiable.
    """
    losses = []
    for part, y in zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True):
        _, sums, chosen = _safe_exponentials(part, weight, bias, y)
        losses.append((sums.log2() - chosen)[:, 0] * NATS)
    return torch.cat(losses)


class _CrossEntropy(Function):
    """Mean cross-entropy whose gradients are formed with the loss.

    The rows of exp(logits) are never divided by their sums: both products are linear in them, so
    the sums divide what comes out of one and what goes into the other, which is far smaller.
    """

    @staticmethod
    def forward(ctx, hidden, weight, bias, targets):
        table, sums, chosen = _safe_exponentials(hidden, weight, bias, targets)
        table.scatter_add_(1, targets[:, None], -sums)  # sum · (p − onehot)
        scale = 1 / (sums * len(targets))  # (N, 1)
        to_both = product(torch.cat([hidden * scale, scale], 1).T, table)  # (H + 1, V)
        # save_for_backward would hold them, and the optimiser have to copy
        ctx.gradients = product(table, weight).mul_(scale), to_both[:-1].T, to_both[-1]
        return (sums.log2() - chosen).mean() * NATS

    @staticmethod
    @once_differentiable
    def backward(ctx, dloss):
        if ctx.gradients is None:
            raise RuntimeError("one backward pass for each loss: compute cross_entropy again")
        gradients, ctx.gradients = ctx.gradients, None
        if dloss.is_cuda or dloss != 1:  # of what is trained on, it is 1; a GPU isn't asked
            gradients = (dloss * gradient for gradient in gradients)
        return *gradients, None


def cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats per token of softmax(hidden weightᵀ + bias) against targets (N,).

    hidden (N, H), weight (V, H), bias (V,), targets int64 (N,). Equal to torch's
    `F.cross_entropy(F.linear(hidden, weight, bias), targets)`, differentiable once, for
    one backward pass. Raises ValueError for another shape or dtype.
    """
    _check(hidden, weight, targets)
    if bias.shape != weight.shape[:1]:
        raise ValueError(f"bias is {tuple(bias.shape)}, not {tuple(weight.shape[:1])}")
    return _CrossEntropy.apply(hidden, weight, bias, targets)


def augmented_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The augmented loss of Inan et al. 2016, of tied weights, at a high temperature.

    For hidden (N, H), weight (V, H), targets (N,): the limit, for temperature τ → ∞, of τ² times
    the mean of KL(softmax(W w_y / τ) ‖ softmax(W h / τ)), where w_y is the target's own embedding:
    half the variance over the words of W (h − w_y). It draws h to w_y, and W gets no gradient.
    """
    weight = weight.detach()
    mean = weight.mean(0)
    covariance = product(weight.T, weight) / len(weight) - mean.outer(mean)  # (H, H)
    apart = hidden - weight[targets]  # (N, H)
    return (apart @ covariance * apart).sum(1).mean() / 2


def _check(hidden: Tensor, weight: Tensor, targets: Tensor) -> None:
    """Raises ValueError where a shape or a dtype is not as it must be."""
    rows, size = len(targets), weight.shape[1]
    if hidden.shape != (rows, size) or hidden.dtype != weight.dtype:
        found, expected = tuple(hidden.shape), (rows, size)
        raise ValueError(f"hidden is {found} {hidden.dtype}, not {expected} {weight.dtype}")
    if targets.dtype != torch.int64 or targets.dim() != 1:
        raise ValueError(f"targets are {targets.dim()}-d {targets.dtype}, not 1-d torch.int64")
