"""`LanguageModel`: embedding → recurrent layers with dropout between → output layer."""

import torch
from torch import Tensor, nn

from ptb.cells import GATES, parameter_count
from ptb.layers import Recurrent, dropout
from ptb.loss import cross_entropy, token_losses
from ptb.setting import PlainError, Setting

State = tuple[tuple[Tensor, ...], ...]  # a layer's states, (B, H) each


class WeightsError(PlainError):
    """Saved weights that do not belong to the model."""


class LanguageModel(nn.Module):
    """Zaremba et al. 2014: dropout on the embedding, between layers and on the last output only.

    Inputs x and targets y are ids (T, B), a state comes from `initial_state` or the last window.
    """

    def __init__(self, setting: Setting, vocabulary: int):
        super().__init__()
        self.dropout, self.same_mask = setting.dropout, setting.same_mask
        self.word_dropout, hidden = setting.word_dropout, setting.hidden
        self.embedding = nn.Embedding(vocabulary, setting.embedding)
        sizes = [setting.embedding] + [hidden] * (setting.layers - 1)
        self.layers = nn.ModuleList(
            Recurrent(setting.cell, size, hidden, setting.reset, setting.weight_drop)
            for size in sizes
        )
        self.output = nn.Linear(hidden, vocabulary)
        # stored by columns: its gradient comes that way from the fastest product, and isn't copied
        self.output.weight = nn.Parameter(torch.empty(hidden, vocabulary).T)  # (V, H)
        if setting.tied:
            self.output.weight = self.embedding.weight
        for weights in self.parameters():
            nn.init.uniform_(weights, -setting.init, setting.init)

    def initial_state(self, batch_size: int) -> State:
        return tuple(layer.initial_state(batch_size) for layer in self.layers)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The last layer's outputs, (T, B, H), and the state after the window."""
        y, states = self._drop(self._embed(x)), []
        for layer, before in zip(self.layers, state, strict=True):
            y, after = layer(y, before)
            y, states = self._drop(y), [*states, after]
        return y, tuple(states)

    def _embed(self, x: Tensor) -> Tensor:
        """The words' vectors, (T, B, E); a dropped word's are zero wherever the window has it."""
        y = self.embedding(x)
        if self.training and self.word_dropout:
            kept = dropout(y.new_ones(self.embedding.num_embeddings), self.word_dropout)  # (V,)
            y = y * kept[x, None]
        return y

    def _drop(self, y: Tensor) -> Tensor:
        if not (self.training and self.dropout):
            return y
        if self.same_mask:
            return y * dropout(torch.ones_like(y[:1]), self.dropout)  # (1, B, ·)
        return dropout(y, self.dropout)

    def loss(self, x: Tensor, y: Tensor, state: State) -> tuple[Tensor, State]:
        """The mean cross-entropy of a window in nats a token, and the state, detached."""
        hidden, state = self(x, state)
        mean = cross_entropy(
            hidden.flatten(0, 1), self.output.weight, self.output.bias, y.flatten()
        )
        return mean, tuple(tuple(part.detach() for part in layer) for layer in state)

    def token_losses(self, x: Tensor, y: Tensor, state: State) -> tuple[Tensor, State]:
        """Each token's cross-entropy in nats, (T, B), and the state."""
        hidden, state = self(x, state)
        flat = token_losses(hidden.flatten(0, 1), self.output.weight, self.output.bias, y.flatten())
        return flat.view_as(y), state

    def logits(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next word's scores after each token, (T, B, V), and the state."""
        hidden, state = self(x, state)
        return self.output(hidden), state


def build(setting: Setting, vocabulary: int) -> LanguageModel:
    """The setting's model with fresh weights, drawn from torch's random state."""
    return LanguageModel(setting, vocabulary)


def load_weights(model: LanguageModel, weights: dict[str, Tensor]) -> None:
    """Copies saved weights into the model; raises WeightsError where names or shapes differ."""
    own = dict(model.named_parameters())
    shapes, saved = ({name: tuple(w.shape) for name, w in d.items()} for d in (own, weights))
    if shapes != saved:
        differing = sorted(
            name for name in {*shapes, *saved} if shapes.get(name) != saved.get(name)
        )
        raise WeightsError(f"the weights are of another setting: {', '.join(differing)} differ")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name])


def parameter_table(model: LanguageModel, setting: Setting) -> list[dict]:
    """Tensor by tensor: its place, shape and count; by layer, the formula and its count."""
    vocabulary, inputs = model.embedding.weight.shape
    rows = [_row("embedding", {"weight": model.embedding.weight}, "V·E", vocabulary * inputs)]
    gates, sizes = GATES[setting.cell], [inputs] + [setting.hidden] * (setting.layers - 1)
    for n, (layer, size) in enumerate(zip(model.layers, sizes, strict=True), 1):
        formula = f"{gates}·(H·{'E' if n == 1 else 'H'} + H·H + 2·H)"
        count = parameter_count(setting.cell, size, setting.hidden)
        rows.append(_row(f"layer {n}", dict(layer.named_parameters()), formula, count))
    output = dict(model.output.named_parameters())
    if setting.tied:
        del output["weight"]
    formula, count = (
        ("V", vocabulary) if setting.tied else ("V·H + V", vocabulary * (setting.hidden + 1))
    )
    return [*rows, _row("output", output, formula, count)]


def _row(place: str, tensors: dict[str, Tensor], formula: str, count: int) -> dict:
    shapes = ", ".join(f"{name} {'×'.join(map(str, t.shape))}" for name, t in tensors.items())
    held = sum(t.numel() for t in tensors.values())
    return {"place": place, "tensors": shapes, "held": held, "formula": formula, "expected": count}
