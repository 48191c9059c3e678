"""Gradient flow: how far back the loss of a window's last step reaches, as the exercise asks.

The quantity is the second exercise's own: the cross-entropy of the last step alone, averaged over
the minibatch, differentiated with respect to the hidden state of each step, all layers side by
side; its Euclidean norm for each step. (The loss of all steps would hide what is asked: every step
then has a loss close by.)
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ptb.data.corpus import windows


def gradient_flow(model, ids: Tensor, batch_size: int, bptt: int) -> dict[str, list]:
    """The gradient's norm at each step of a split's first window, from the zero state; no dropout.

    ids (n,) are the split's. For T steps, T numbers each: "average" is the norm of the gradient
    averaged over the minibatch, as the exercise says; "each" is the norms of the B gradients
    averaged, which cannot cancel. For a cell whose state is more than h (the LSTM's c), "average,
    h" and "each, h" are the same of h alone. A number that is not finite is None.
    """
    x, y = next(iter(windows(ids, batch_size, bptt)))
    gradients = state_gradients(model.eval(), x, y)  # (T, B, S), of the mean: each is B times it
    kinds = {"": gradients}
    if (parts := len(model.initial_state(1)[0])) > 1:
        by_part = gradients.unflatten(2, (len(model.layers), parts, -1))  # (T, B, layers, parts, H)
        kinds[", h"] = by_part[:, :, :, 0].flatten(2)
    norms = {}
    for kind, vectors in kinds.items():
        norms[f"average{kind}"] = vectors.sum(1).norm(dim=1)
        norms[f"each{kind}"] = vectors.norm(dim=2).sum(1)
    return {
        name: [value if math.isfinite(value) else None for value in values.tolist()]
        for name, values in norms.items()
    }


def state_gradients(model, x: Tensor, y: Tensor) -> Tensor:
    """d(mean cross-entropy of the last step) / d(state after each step): (T, B, S).

    x and y (T, B). S is the states of all layers side by side: their h, for the LSTM h and c.
    """
    states = _states(model, x)
    last = model.projection(states[-1][-1][0][None])[0]  # (B, H)
    loss = F.cross_entropy(model.output(last), y[-1])
    parts = [[part for layer in step for part in layer] for step in states]
    flat = torch.autograd.grad(loss, sum(parts, []), materialize_grads=True)
    count = len(parts[0])
    return torch.stack([torch.cat(flat[n : n + count], 1) for n in range(0, len(flat), count)])


def _states(model, x: Tensor) -> list:
    """The state after each step, each tensor once: what the layer above reads is the state's h."""
    state, states = model.initial_state(x.shape[1]), []
    for y in model.embedding(x).split(1):  # (1, B, E)
        after = []
        for layer, before in zip(model.layers, state, strict=True):
            after.append(layer(y, before)[1])
            y = after[-1][0][None]
        state = tuple(after)
        states.append(state)
    return states


def half_life(norms: list[float | None]) -> float | None:
    """Steps back in which the norm halves, by a straight line through its logarithm.

    Least squares over the steps from the last back to the first that is below a thousandth of the
    last one or not positive; infinite where the norm does not fall. None where fewer than three
    steps are left.
    """
    usable = []
    for norm in reversed(norms):
        if not norm or norm < norms[-1] / 1000:
            break
        usable.append(norm)
    if len(usable) < 3:
        return None
    slope = np.polyfit(range(len(usable)), np.log2(usable), 1)[0]
    return -1 / slope if slope < 0 else math.inf
