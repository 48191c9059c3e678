"""The output layer and the cross-entropy in one: per token for evaluation, fused for training.

Evaluation forms the logits in chunks of rows. Training forms one (N, V) table and turns it from
logits to probabilities to gradients in place, a chunk that stays in cache at a time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ptb.products import product

CHUNK = 175  # rows; 7 MB of logits at 10,000 words


def token_losses(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Each target's cross-entropy in nats, (N,), from hidden (N, H), weight (V, H), bias (V,)."""
    chunks = zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True)
    losses = [F.cross_entropy(product(h, weight.T, bias), y, reduction="none") for h, y in chunks]
    return torch.cat(losses)


def _softmax_(logits: Tensor, targets: Tensor) -> Tensor:
    """Turns logits (n, V) into probabilities in place; returns the targets' losses (n,)."""
    target = logits.gather(1, targets[:, None])  # (n, 1)
    largest = logits.amax(1, keepdim=True)
    torch.softmax(logits, 1, out=logits)
    # log Σ exp = largest − log(largest probability), which is at least 1/V: no underflow
    return (largest - logits.amax(1, keepdim=True).log() - target)[:, 0]


class _CrossEntropy(Function):
    """Mean cross-entropy whose gradients are formed with the loss, while each chunk is at hand."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, targets):
        rows, losses = len(targets), []
        logits = product(hidden, weight.T, bias)  # (N, V), becomes d(sum of losses) / d(logits)
        for chunk, y in zip(logits.split(CHUNK), targets.split(CHUNK), strict=True):
            losses.append(_softmax_(chunk, y))
            chunk.scatter_add_(1, y[:, None], chunk.new_full((len(y), 1), -1.0))  # p − onehot
        ctx.save_for_backward(
            product(logits, weight).div_(rows),
            product((hidden / rows).T, logits).T,
            logits.sum(0).div_(rows),
        )
        return torch.cat(losses).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx, dloss):
        gradients = ctx.saved_tensors
        if dloss != 1:  # of what is trained on, it is 1
            gradients = (dloss * gradient for gradient in gradients)
        return *gradients, None


def cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats a token of softmax(hidden weightᵀ + bias) against targets (N,).

    hidden (N, H), weight (V, H), bias (V,), targets int64 (N,). Equal to torch's
    `F.cross_entropy(F.linear(hidden, weight, bias), targets)`, differentiable once. Raises
    ValueError for another shape or dtype.
    """
    _check(hidden, weight, targets)
    return _CrossEntropy.apply(hidden, weight, bias, targets)


def _check(hidden: Tensor, weight: Tensor, targets: Tensor) -> None:
    """Raises ValueError where a shape or a dtype is not as it must be."""
    rows, size = len(targets), weight.shape[1]
    if hidden.shape != (rows, size) or hidden.dtype != weight.dtype:
        found, expected = tuple(hidden.shape), (rows, size)
        raise ValueError(f"hidden is {found} {hidden.dtype}, not {expected} {weight.dtype}")
    if targets.dtype != torch.int64 or targets.dim() != 1:
        raise ValueError(f"targets are {targets.dim()}-d {targets.dtype}, not 1-d torch.int64")
