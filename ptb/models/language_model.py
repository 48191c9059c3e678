"""`LanguageModel`, the one interface that training and evaluation know, and its two kinds.

Embedding → recurrent layers or a Transformer → output layer.
"""

import math

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ptb.errors import WeightsError
from ptb.models.cross_entropy import augmented_loss, cross_entropy, token_cross_entropies
from ptb.models.layers import Dropout, Linear, Recurrent, drop
from ptb.models.transformer import DecoderLayer, positions
from ptb.setting import Setting

State = tuple[tuple[Tensor, ...], ...]  # a layer's states, (B, H) each


class LanguageModel(nn.Module):
    """What training and evaluation know of a model.

    Inputs x and targets y are ids (T, B), a state comes from `initial_state` or the last window.
    window is the number of words that the model sees at most; None: its state carries on for ever.
    Its kinds have an `embedding` and an `output` layer, and a `forward` from x and a state to the
    last layer's outputs, (T, B, H), and the state after the window.
    """

    window: int | None = None
    augmented: float = 0.0

    def loss(self, x: Tensor, y: Tensor, state: State) -> tuple[Tensor, State]:
        """The mean cross-entropy of a window in nats per token, and the state, detached.

        In training an augmented loss adds its gradient, but not its value.
        """
        hidden, state = self(x, state)
        rows, targets = hidden.flatten(0, 1), y.flatten()  # (T·B, H), (T·B,)
        mean = cross_entropy(rows, self.output.weight, self.output.bias, targets)
        if self.training and self.augmented:
            added = self.augmented * augmented_loss(rows, self.output.weight, targets)
            mean = mean + (added - added.detach())
        return mean, tuple(tuple(part.detach() for part in layer) for layer in state)

    def token_losses(self, x: Tensor, y: Tensor, state: State) -> tuple[Tensor, State]:
        """Each token's cross-entropy in nats, as y, and the state; y may be of the last steps."""
        hidden, state = self(x, state)
        rows = hidden[-len(y) :].flatten(0, 1)
        losses = token_cross_entropies(rows, self.output.weight, self.output.bias, y.flatten())
        return losses.view_as(y), state

    def logits(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next word's scores after each token, (T, B, V), and the state."""
        hidden, state = self(x, state)
        return self.output(hidden), state


class Projection(Linear):
    """y + (W y + b) / 10 for y (T, B, H): near the identity, with a hundredth of the learning rate.

    At the others' rate, which suits the output matrix, so small a matrix is thrown about.
    """

    def __init__(self, size: int):
        super().__init__(size, size)

    def forward(self, y: Tensor) -> Tensor:
        return y + super().forward(y) / 10


class RecurrentModel(LanguageModel):
    """Zaremba et al. 2014: dropout on the embedding, between layers and on the last output only."""

    def __init__(self, setting: Setting, vocabulary: int):
        super().__init__()
        hidden = setting.hidden
        self.word_dropout, self.augmented = setting.word_dropout, setting.augmented
        self.embedding = nn.Embedding(vocabulary, setting.embedding)
        self.drop = Dropout(setting.dropout, setting.same_mask)
        sizes = [setting.embedding] + [hidden] * (setting.layers - 1)
        choices = setting.reset, setting.biases, setting.weight_drop
        self.layers = nn.ModuleList(
            Recurrent(setting.cell, size, hidden, *choices) for size in sizes
        )
        self.projection = Projection(hidden) if setting.projected else nn.Identity()
        self.output = _output_layer(hidden, vocabulary)
        if setting.tied:
            self.embedding.weight = self.output.weight
        for weights in self.parameters():
            nn.init.uniform_(weights, -setting.init, setting.init)
        if setting.initial == "exercise":  # the embedding and the output matrix stay as they are
            nn.init.zeros_(self.output.bias)
            for weights in self.layers.parameters():
                nn.init.uniform_(weights, -1 / math.sqrt(hidden), 1 / math.sqrt(hidden))

    def initial_state(self, batch_size: int) -> State:
        return tuple(layer.initial_state(batch_size) for layer in self.layers)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The last layer's outputs, projected or not, (T, B, H), and the state after the window."""
        y, states = self.drop(self._embed(x)), []
        for layer, before in zip(self.layers, state, strict=True):
            y, after = layer(y, before)
            y = self.drop(y)
            states.append(after)
        return self.projection(y), tuple(states)

    def _embed(self, x: Tensor) -> Tensor:
        """The words' vectors, (T, B, E); a dropped word's are zero wherever the window has it."""
        y = self.embedding(x)
        if self.training and self.word_dropout:
            kept = drop(y.new_ones(self.embedding.num_embeddings), self.word_dropout)  # (V,)
            y = y * kept[x, None]
        return y


class TransformerModel(LanguageModel):
    """The second exercise's: embedding · √D + positions, dropout, pre-norm layers, a norm, output.

    It has no state: a window is all that it sees, and positions start anew in each. Matrices are
    drawn from Xavier's (Glorot's) uniform range, biases as torch's are.
    """

    def __init__(self, setting: Setting, vocabulary: int):
        super().__init__()
        self.window, hidden = setting.bptt, setting.hidden
        sizes = hidden, setting.heads, setting.feedforward
        rates = setting.dropout, setting.attention_dropout
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.drop = Dropout(setting.dropout)
        self.layers = nn.ModuleList(DecoderLayer(*sizes, *rates) for _ in range(setting.layers))
        self.norm = nn.LayerNorm(hidden)
        self.output = _output_layer(hidden, vocabulary)
        for weights in self.parameters():
            if weights.dim() == 2:
                nn.init.xavier_uniform_(weights)

    def initial_state(self, batch_size: int) -> State:
        return ()

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The normed outputs of the last layer, (T, B, D), and no state."""
        hidden = self.embedding.embedding_dim
        y = self.embedding(x) * math.sqrt(hidden)
        y = self.drop(y + positions(len(x), hidden, y.dtype, y.device)[:, None])  # (T, 1, D)
        for layer in self.layers:
            y = layer(y)
        return self.norm(y), ()


def _output_layer(hidden: int, vocabulary: int) -> nn.Linear:
    """Stored by columns: its gradient comes that way from the fastest product, and isn't copied."""
    layer = nn.Linear(hidden, vocabulary)
    layer.weight = nn.Parameter(torch.empty(hidden, vocabulary).T)  # (V, H)
    return layer


def build(setting: Setting, vocabulary: int) -> LanguageModel:
    """The setting's model with fresh weights, drawn from torch's random state."""
    kind = TransformerModel if setting.cell == "transformer" else RecurrentModel
    return kind(setting, vocabulary)


class _NoNormal(TorchFunctionMode):
    """A context that leaves out `nn.init.normal_`, an embedding's first weights.

    Where tensors have no memory torch imports its compiler for it, which takes two seconds.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        return kwargs["tensor"] if function is nn.init.normal_ else function(*args, **kwargs)


def count_parameters(setting: Setting, vocabulary: int) -> int:
    """How many parameters the setting's model has, a tied matrix counted once."""
    with torch.device("meta"), _NoNormal():  # shapes alone, no memory
        return sum(weights.numel() for weights in build(setting, vocabulary).parameters())


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
