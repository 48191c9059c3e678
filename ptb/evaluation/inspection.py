"""What goes on in a model as it reads: gates, units that follow something, gradients, attention.

All of it in evaluation mode, without dropout, and from the zero state. ids is a text, (n,), whose
first word is as a rule `<eos>`: that a sentence begins.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ptb.data.corpus import EOS
from ptb.evaluation.generation import tempered
from ptb.models.layers import Recurrent
from ptb.models.transformer import MultiHeadAttention, causal_mask, masked_softmax


# ---------------------------------------------------------------- gates and states
def _lstm_gates(x, h, c, w_ih, w_hh, b_ih, b_hh, reset) -> dict[str, Tensor]:
    i, f, g, o = (x @ w_ih.T + b_ih + h @ w_hh.T + b_hh).chunk(4, dim=1)  # (B, H) each
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c = f * c + i * g
    return {"h": o * torch.tanh(c), "c": c, "f": f, "i": i, "o": o, "g": g}


def _gru_gates(x, h, w_ih, w_hh, b_ih, b_hh, reset) -> dict[str, Tensor]:
    x_r, x_z, x_n = (x @ w_ih.T + b_ih).chunk(3, dim=1)  # (B, H) each
    h_r, h_z, h_n = (h @ w_hh.T + b_hh).chunk(3, dim=1)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    if reset == "before":
        size = h.shape[1]
        n = torch.tanh(x_n + (r * h) @ w_hh[2 * size :].T + b_hh[2 * size :])
    else:
        n = torch.tanh(x_n + r * h_n)
    return {"h": z * h + (1 - z) * n, "z": z, "r": r, "n": n}


GATES = {"lstm": _lstm_gates, "gru": _gru_gates}  # a cell that is not here has its state alone


def gate_values(layer: Recurrent, x: Tensor, state: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """The layer's states and gates after each step, by the equations of `ptb.models.cells`.

    x (T, B, inputs) and the state before it -> (T, B, H) each: h, c, f, i, o and g of an LSTM; h,
    z, r and n of a GRU; of another cell what it carries.
    """
    weights = layer.weight_ih, layer.weight_hh, layer.bias_ih, layer.bias_hh
    steps = []
    for x_t in x:
        if layer.name in GATES:
            found = GATES[layer.name](x_t, *state, *weights, layer.reset)
        else:
            after = layer.cell.step(x_t, *state, *weights)
            after = after if isinstance(after, tuple) else (after,)
            found = dict(zip(layer.cell.states, after, strict=True))
        state = tuple(found[name] for name in layer.cell.states)
        steps.append(found)
    return {name: torch.stack([step[name] for step in steps]) for name in steps[0]}


@torch.no_grad()
def read_gates(model, ids: Tensor) -> list[dict[str, Tensor]]:
    """`gate_values` of each layer as a recurrent model reads ids (T, B): (T, B, H) each."""
    model.eval()
    y, found = model.embedding(ids), []
    for layer, state in zip(model.layers, model.initial_state(ids.shape[1]), strict=True):
        found.append(gate_values(layer, y, state))
        y = found[-1]["h"]
    return found


# ---------------------------------------------------------------- units that follow something
def features(ids: Tensor, index: dict[str, int]) -> dict[str, Tensor]:
    """What a unit may follow in texts of ids (T, B), each starting anew: (T, B), NaN if unknown.

    index is the vocabulary's. What hangs on a word is left out where the vocabulary lacks it.
    """
    ends = ids == index[EOS]
    found = {
        "the end of a sentence": ends.float(),
        "words since the sentence began": _count_since(ends),
        "words until the sentence ends": _count_since(ends.flip(0)).flip(0),
    }
    if "said" in index:
        said, begun = _count_since(ids == index["said"]), _count_since(ends)
        after = torch.where(begun.isnan(), math.nan, (said < begun).float())
        found["after “said” in its sentence"] = after
    if "N" in index:  # as Penn Treebank has any number
        found["a number"] = (ids == index["N"]).float()
    return found


def _count_since(marks: Tensor) -> Tensor:
    """The steps since the last mark at each step of (T, B), 0 at a mark; NaN before the first."""
    steps = torch.arange(len(marks))[:, None].expand_as(marks)
    last = torch.where(marks, steps, -1).cummax(0).values
    return torch.where(last < 0, math.nan, (steps - last).float())


def correlations(units: Tensor, feature: Tensor) -> Tensor:
    """Pearson's correlation of each unit (n, H) with the feature (n,), where it is known: (H,).

    A unit or a feature that never changes has none: 0.
    """
    known = feature.isfinite()
    units, feature = units[known].double(), feature[known].double()
    units, feature = units - units.mean(0), feature - feature.mean()
    scale = units.norm(dim=0) * feature.norm()
    return torch.where(scale > 0, feature @ units / scale, 0.0).float()


class Follower(NamedTuple):
    """The unit that follows a feature best: correlation where it was chosen, and elsewhere."""

    feature: str
    layer: int  # from 1
    state: str  # "h", or an LSTM's "c"
    unit: int  # from 0
    chosen: float
    elsewhere: float


def followers(layers: list[dict[str, Tensor]], features: dict[str, Tensor]) -> list[Follower]:
    """For each feature (T, B) the unit of the states (T, B, H) that correlates most with it.

    layers are `read_gates`'s. It is chosen on the first half of the B texts and measured on the
    second: the best of hundreds of units is too good by chance where it was chosen.
    """
    half = next(iter(features.values())).shape[1] // 2
    found = []
    for name, feature in features.items():
        best = None
        for layer, values in enumerate(layers, 1):
            for state in ("h", "c") if "c" in values else ("h",):
                near, far = values[state][:, :half], values[state][:, half:]
                chosen = correlations(near.flatten(0, 1), feature[:, :half].flatten())
                unit = chosen.abs().argmax().item()
                if best is None or abs(chosen[unit]) > abs(best.chosen):
                    (other,) = correlations(
                        far[:, :, [unit]].flatten(0, 1), feature[:, half:].flatten()
                    )
                    best = Follower(name, layer, state, unit, chosen[unit].item(), other.item())
        found.append(best)
    return found


# ---------------------------------------------------------------- gradient and next word
def word_gradients(model, ids: Tensor) -> Tensor:
    """How much each word counts for the last: the norm of d(its loss) / d(a word's vector).

    ids (n,) -> (n − 1,), a number for each word but the last, which is the target.
    """
    vectors = []
    hook = model.embedding.register_forward_hook(lambda layer, args, output: vectors.append(output))
    try:
        logits, _ = model.eval().logits(ids[:-1, None], model.initial_state(1))  # (n − 1, 1, V)
    finally:
        hook.remove()
    loss = F.cross_entropy(logits[-1], ids[-1:])
    (gradient,) = torch.autograd.grad(loss, vectors)
    return gradient[:, 0].norm(dim=1)


@torch.no_grad()
def next_word(model, ids: Tensor, temperature: float = 1.0, top_k: int | None = None) -> Tensor:
    """The probability of each word after ids (n,): (V,), from the top_k likeliest words alone.

    Temperature 0 puts all on the likeliest word. A Transformer sees its window's last words.
    """
    seen = ids[-model.window :] if model.window else ids
    logits, _ = model.eval().logits(seen[:, None], model.initial_state(1))
    scores = logits[-1, 0]
    if top_k is not None:
        top = scores.topk(min(top_k, len(scores)))
        scores = torch.full_like(scores, -math.inf).scatter_(0, top.indices, top.values)
    return tempered(scores, temperature)


# ---------------------------------------------------------------- attention
def attention_scores(attention: MultiHeadAttention, x: Tensor) -> Tensor:
    """Q Kᵀ / √d of each head for x (T, B, D): (B, h, T, T), before mask and softmax."""
    q, k = (attention.split(part(x)) for part in (attention.query, attention.key))
    return q @ k.mT / math.sqrt(q.shape[-1])


def attention_weights(attention: MultiHeadAttention, x: Tensor) -> Tensor:
    """The weights of each head for x (T, B, D): (B, h, T, T); a row is a query, its sum 1."""
    return masked_softmax(attention_scores(attention, x), causal_mask(len(x), x.device))


@torch.no_grad()
def read_attention(model, ids: Tensor, what=attention_weights) -> list[Tensor]:
    """What each layer's heads do as a Transformer reads ids (T,): (h, T, T) a layer.

    what is `attention_weights` or `attention_scores`.
    """
    found = []
    hooks = [
        layer.attention.register_forward_pre_hook(
            lambda module, args: found.append(what(module, *args)[0])
        )
        for layer in model.layers
    ]
    try:
        model.eval()(ids[:, None], model.initial_state(1))
    finally:
        for hook in hooks:
            hook.remove()
    return found
