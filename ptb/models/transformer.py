"""The Transformer of the second exercise: multi-head attention and pre-norm decoder layers.

Vaswani et al. 2017, "Attention is all you need": equations and sections by their numbers there.
`attention` and the masked softmaxes are for reading and for checking `causal_attention`, which
computes the same function at once. The layers differ from the paper's in one point, the exercise's
own: the norm stands before each part, not behind it (pre-norm).

Shapes: T steps, B rows, D = hidden, h heads of d = D / h units each. Between layers (T, B, D),
within attention (B, h, T, d).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptb.models.layers import Dropout, Linear, drop


# ---------------------------------------------------------------- attention, to be read
def causal_mask(steps: int, device=None) -> Tensor:
    """(T, T): True where a row's query may attend to a column's key, up to itself."""
    return torch.ones(steps, steps, dtype=torch.bool, device=device).tril()


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the allowed keys: the others' scores become a large negative number.

    scores (…, T, T), mask (T, T) -> (…, T, T), each row's sum 1. The exercise's
    equations 11 and 12; right for scores far above that number.
    """
    return torch.softmax(scores * mask - 1e9 * ~mask, dim=-1)


def masked_softmax_by_product(scores: Tensor, mask: Tensor) -> Tensor:
    """The same by the exercise's equations 9 and 10: the mask multiplies exponentials.

    Each row's largest allowed score is subtracted first, which changes nothing but that
    exponentials of large scores stay finite and those of large negative ones don't all
    vanish.
    """
    largest = scores.masked_fill(~mask, -torch.inf).amax(-1, keepdim=True)
    exponentials = (scores - largest).clamp(max=0).exp() * mask  # clamps forbidden ones
    return exponentials / exponentials.sum(-1, keepdim=True)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, p: float = 0.0) -> Tensor:
    """Scaled dot-product attention, softmax(Q Kᵀ / √d) V: equation 1.

    q, k, v (…, T, d), mask (T, T) -> (…, T, d). Weights are dropped with probability p.
    """
    scores = q @ k.mT / math.sqrt(q.shape[-1])  # (…, T, T)
    return drop(masked_softmax(scores, mask), p) @ v


# ---------------------------------------------------------------- the layers
def causal_attention(q: Tensor, k: Tensor, v: Tensor, p: float = 0.0) -> Tensor:
    """`attention` with the causal mask, as torch computes it; all (B, h, T, d)."""
    return F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)


class MultiHeadAttention(nn.Module):
    """Concat(head_1, …, head_h) W_O, head_i = attention(x W_Qi, x W_Ki, x W_Vi): 3.2.2.

    One matrix holds a W_Q (or W_K, W_V) of all heads side by side; all four have a bias.
    Attends to the past and itself alone. dropout is that of the attention weights. Takes
    and returns (T, B, D); heads divides hidden.
    """

    def __init__(self, hidden: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value = (Linear(hidden, hidden) for _ in range(3))
        self.output = Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.split(part(x)) for part in (self.query, self.key, self.value))
        y = causal_attention(q, k, v, self.dropout if self.training else 0.0)
        return self.output(y.permute(2, 0, 1, 3).flatten(2))  # heads joined: (T, B, D)

    def split(self, x: Tensor) -> Tensor:
        """(T, B, D) -> (B, h, T, d)."""
        return x.unflatten(2, (self.heads, -1)).permute(1, 2, 0, 3)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, dropout={self.dropout:g}"


class FeedForward(nn.Module):
    """W_2 relu(W_1 x + b_1) + b_2, at each step by itself: equation 2; (T, B, D) -> (T, B, D).

    Dropout acts behind the relu.
    """

    def __init__(self, hidden: int, feedforward: int, dropout: float):
        super().__init__()
        self.widen, self.narrow = Linear(hidden, feedforward), Linear(feedforward, hidden)
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.narrow(self.drop(self.widen(x).relu()))


class DecoderLayer(nn.Module):
    """x + attention(norm_1(x)), then x + feedforward(norm_2(x)); (T, B, D) -> (T, B, D).

    Dropout acts on what each part adds (section 5.4) and within the feed-forward,
    attention_dropout on the weights of attention.
    """

    def __init__(
        self, hidden: int, heads: int, feedforward: int, dropout: float, attention_dropout: float
    ):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.attention = MultiHeadAttention(hidden, heads, attention_dropout)
        self.feedforward = FeedForward(hidden, feedforward, dropout)
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attention(self.norm_1(x)))
        return x + self.drop(self.feedforward(self.norm_2(x)))


def positions(steps: int, hidden: int, dtype=None, device=None) -> Tensor:
    """PE(t, 2i) = sin(t / 10000^(2i/D)), PE(t, 2i+1) = cos of the same: section 3.5; (T, D)."""
    even = torch.arange(0, hidden, 2, dtype=dtype, device=device)
    t = torch.arange(steps, dtype=dtype, device=device)
    angles = t[:, None] / 10_000 ** (even / hidden)  # (T, ⌈D/2⌉)
    return torch.stack((angles.sin(), angles.cos()), 2).flatten(1)[:, :hidden]
