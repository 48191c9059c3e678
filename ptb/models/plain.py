"""The exercise's model and loop as a textbook has them, on torch.nn alone. Read this first.

    batches = windows(corpus["train"], batch_size=20, bptt=35)
    model = PlainModel("lstm", len(corpus.words), dropout=0.25)
    optimiser = torch.optim.SGD(model.parameters(), lr=20)
    loss = train_epoch(model, optimiser, batches, clip=0.25)
    perplexity = math.exp(evaluate(model, windows(corpus["valid"], batch_size=10, bptt=100)))

The rest of the project computes the same, faster: its tests compare every step with these lines.
Shapes: T words in a window, B rows side by side, E and H units, V words in the vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import nn

LAYERS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class PlainModel(nn.Module):
    """Embedding → recurrent layers → output layer, as Zaremba et al. 2014: dropout between them."""

    def __init__(self, cell, words, embedding=200, hidden=200, layers=2, dropout=0.0, init=0.1):
        super().__init__()
        between = dropout if layers > 1 else 0.0  # torch's own, between the recurrent layers
        self.embedding = nn.Embedding(words, embedding)  # weight (V, E)
        self.rnn = LAYERS[cell](embedding, hidden, layers, dropout=between)
        self.output = nn.Linear(hidden, words)  # weight (V, H)
        self.drop = nn.Dropout(dropout)
        for weights in self.parameters():
            nn.init.uniform_(weights, -init, init)

    def forward(self, x, state=None):  # ids (T, B); None is the zero state
        vectors = self.drop(self.embedding(x))  # (T, B, E)
        hidden, state = self.rnn(vectors, state)  # (T, B, H); h, and the LSTM's c, (layers, B, H)
        return self.output(self.drop(hidden)), state  # (T, B, V), a score for each next word


def detach(state):
    """The state's values without their history, so that gradients stop between windows."""
    return tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()


def train_step(model, optimiser, x, y, state, clip):
    """One update on a window, x and y (T, B): its mean loss, and the state."""
    logits, state = model(x, state)  # (T, B, V)
    loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())  # mean over T·B words
    optimiser.zero_grad()
    loss.backward()  # back through these T steps
    nn.utils.clip_grad_norm_(model.parameters(), clip)  # all gradients' norm together
    optimiser.step()
    return loss.item(), detach(state)


def train_epoch(model, optimiser, batches, clip):
    """Truncated backpropagation through time, window by window; the mean loss."""
    model.train()  # dropout on
    state, total, count = None, 0.0, 0
    for x, y in batches:
        loss, state = train_step(model, optimiser, x, y, state, clip)
        total += loss * y.numel()  # the last window is shorter
        count += y.numel()
    return total / count


@torch.no_grad()
def evaluate(model, batches):
    """The mean loss in nats per word; its exponential is the perplexity."""
    model.eval()  # dropout off
    state, total, count = None, 0.0, 0
    for x, y in batches:
        logits, state = model(x, state)
        total += F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum").item()
        count += y.numel()
    return total / count
