"""Perplexity: each token's loss, and the exponential of its mean."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ptb.models.capture import GraphedLosses

ROWS, WINDOW = 10, 100
SLIDING = 256  # windows at a time in the sliding evaluation
WORTH_CAPTURING = 12  # windows: a capture takes the time of four


@torch.no_grad()
def _read(model, ids: Tensor, rows: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """A split's windows: the targets' places (T, B), which of them are real, and their losses.

    The split's targets, ids[1:], are cut into contiguous rows, read side by side with the state
    carried; each row after the first starts from the zero state and its predecessor's last token.
    Where the last row is shorter its end is filled up, and not real. A Transformer, which carries
    no state, reads windows of its own length and begins anew in each.
    """
    model.eval()
    count = len(ids) - 1
    length = -(-count // rows)
    starts = length * torch.arange(rows, device=ids.device)
    state, size = model.initial_state(rows), model.window or WINDOW
    whole = model.token_losses  # of a window of full size
    if ids.is_cuda and length // size > WORTH_CAPTURING:
        whole = GraphedLosses(model, size, rows, ids.device)
    for first in range(0, length, size):
        steps = torch.arange(first, min(first + size, length), device=ids.device)
        places = steps[:, None] + starts  # (T, B)
        inside = places.clamp(max=count - 1)
        losses_of = whole if len(steps) == size else model.token_losses
        losses, state = losses_of(ids[inside].long(), ids[inside + 1].long(), state)
        yield places, places < count, losses


def token_losses(model, ids: Tensor, rows: int = ROWS) -> Tensor:
    """Each token's loss in nats, float64 (n − 1,), for a split's ids (n,): all but its first."""
    # One tensor from the start: the losses of each window, kept as small tensors of their own
    # between the large ones that come and go, would pin gigabytes of the allocator's memory.
    found = torch.empty(len(ids) - 1, dtype=torch.float64, device=ids.device)
    for places, real, losses in _read(model, ids, rows):
        found[places[real]] = losses[real].double()
    return found


def measure(model, ids: Tensor, rows: int = ROWS) -> dict:
    """The `summary` of a split's token losses, in memory that does not grow with the text."""
    total = torch.zeros((), dtype=torch.float64, device=ids.device)
    for _, real, losses in _read(model, ids, rows):
        total += torch.where(real, losses.double(), 0.0).sum()
    return _summary(total / (len(ids) - 1), len(ids) - 1)


def summary(losses: Tensor) -> dict:
    """Mean loss in nats per token, its exponential and the number of tokens, from losses (n,)."""
    return _summary(losses.double().mean(), len(losses))


def _summary(mean: Tensor, tokens: int) -> dict:
    return {"loss": mean.item(), "perplexity": mean.exp().item(), "tokens": tokens}


@torch.no_grad()
def sliding_losses(model, ids: Tensor) -> Tensor:
    """Each token's loss in nats, (n − 1,), given the whole window of a Transformer before it.

    `token_losses` cuts windows that do not overlap, so that a token's context is on average half
    of what the model can see, and the first in a window has one word. Here a window ends before
    each token. The first tokens have what there is. It costs as many times more as a window is
    long.
    """
    steps, ids = model.window, ids.long()
    first = token_losses(model, ids[: steps + 1], rows=1)
    if len(ids) <= steps + 1:
        return first
    contexts, targets = ids[1:-1].unfold(0, steps, 1), ids[steps + 1 :]  # (N, T), (N,)
    losses = [first]
    for x, y in zip(contexts.split(SLIDING), targets.split(SLIDING), strict=True):
        loss, _ = model.token_losses(x.T, y[None], model.initial_state(len(y)))
        losses.append(loss[0])
    return torch.cat(losses)


def text_losses(model, ids: Tensor) -> Tensor:
    """Each word's loss in nats, (n − 1,), for a text's ids (n,), given the words before it.

    A Transformer sees those of them that fit into its window, which ends before the word.
    """
    return sliding_losses(model, ids) if model.window else token_losses(model, ids, rows=1)


def perplexity(losses: Tensor) -> float:
    """exp of the mean over tokens; infinite where the mean is beyond a float's exponent."""
    return losses.double().mean().exp().item()
