"""Text from a model: sampled or greedy, and from distinct starts for the second exercise."""

from difflib import get_close_matches
from zlib import crc32

import torch
import torch.nn.functional as F
from torch import Tensor

from ptb.data.corpus import EOS, UNK, Corpus
from ptb.errors import SettingError

TEXTS = 10  # of each kind that a run keeps


def encode(corpus: Corpus, text: str, substitute: str | None = UNK) -> list[int]:
    """The ids of a text's words; a word that the vocabulary lacks has the substitute's.

    Raises SettingError for such a word where the vocabulary lacks the substitute too.
    """
    index = corpus.index
    other = index.get(substitute)
    for word in text.split():
        if word not in index and other is None:
            (close,) = get_close_matches(word.lower(), corpus.words, n=1, cutoff=0)
            where = f"is not in the vocabulary of {corpus.name}"
            raise SettingError(f"the word {word!r} {where}: did you mean {close!r}?")
    return [index.get(word, other) for word in text.split()]


def generate(
    model, prompt: Tensor, length: int, temperature: float, generator: torch.Generator | None = None
) -> list[int]:
    """That many ids after the prompt (n,); see `generate_rows`."""
    rows = generate_rows(model, prompt[:, None], length, temperature, generator)
    return rows[:, 0].tolist()


@torch.no_grad()
def generate_rows(
    model,
    prompts: Tensor,
    length: int,
    temperature: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The ids that follow prompts (n, B), (length, B): likeliest at temperature 0, else sampled.

    A Transformer sees the last words that fit its window.
    """
    model.eval()
    ids, state, read = prompts, model.initial_state(prompts.shape[1]), 0
    for _ in range(length):
        unread = ids[-model.window :] if model.window else ids[read:]  # a Transformer reads anew
        logits, state = model.logits(unread, state)
        read = len(ids)
        ids = torch.cat((ids, _choose(logits[-1], temperature, generator)[None]))
    return ids[len(prompts) :]


def _choose(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """An id for each row of logits (B, V): (B,)."""
    probabilities = tempered(logits, temperature).cpu()
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0].to(logits.device)


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """The probabilities of logits (…, V) over the temperature; at 0 all is on the likeliest."""
    if temperature < torch.finfo(logits.dtype).tiny:  # it would divide by zero
        return F.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
    # the largest is zero: divided by a low temperature it stays finite
    return ((logits - logits.amax(-1, keepdim=True)) / temperature).softmax(-1)


def write_samples(model, corpus: Corpus, name: str, length: int = 60) -> list[dict]:
    """Texts from the start of a sentence: one greedy, one at a low temperature, one at 1.

    The random numbers follow from the name of the run, so that no two runs draw with the same.
    "memorised" is the longest sequence of words that the text shares with the training split.
    """
    prompt = torch.tensor([corpus.index[EOS]], device=next(model.parameters()).device)
    samples = []
    for temperature in (0.0, 0.7, 1.0):
        generator = torch.Generator().manual_seed(crc32(name.encode()))
        ids = generate(model, prompt, length, temperature, generator)
        memorised = corpus.text(longest_shared(ids, corpus["train"]))
        text = {"temperature": temperature, "text": corpus.text(ids), "memorised": memorised}
        samples.append(text)
    return samples


def longest_shared(ids: list[int], train: Tensor) -> list[int]:
    """The longest sequence of ids that stands in train (N,) too; of several, the first."""
    longest = []
    for first in range(len(ids)):
        ends = (train == ids[first]).nonzero()[:, 0]  # where in train the sequence so far ends
        for last in range(first, len(ids)):
            if last > first:
                ends = ends[ends + 1 < len(train)] + 1
                ends = ends[train[ends] == ids[last]]
            if not len(ends):
                break
            if last + 1 - first > len(longest):
                longest = ids[first : last + 1]
    return longest


def starts(corpus: Corpus, count: int) -> list[int]:
    """The words that begin most of the training sentences, as ids; no `<unk>`, no `<eos>`.

    Where there are too few of them, other words follow; as many as the vocabulary has.
    """
    ids, index = corpus["train"], corpus.index
    begins = torch.bincount(ids[1:][ids[:-1] == index[EOS]], minlength=len(corpus.words))
    order = begins.argsort(descending=True, stable=True).tolist()
    return [word for word in order if word not in (index[EOS], index.get(UNK))][:count]


def write_texts(model, corpus: Corpus, name: str, bptt: int) -> list[dict]:
    """Greedy texts of bptt and of twice as many words, and sampled ones at temperature 1.

    Ten of each kind, from the zero state, `<eos>` and a start; no two greedy ones have one start.
    The random numbers follow from the name of the run, as those of `write_samples` do.
    """
    seed = crc32(name.encode())
    words = starts(corpus, 2 * TEXTS)
    kinds = ((0.0, bptt, words[::2]), (0.0, 2 * bptt, words[1::2]), (1.0, bptt, words[::2]))
    # of a vocabulary of one word a kind has no start
    return [text for kind in kinds if kind[2] for text in _write(model, corpus, seed, *kind)]


def _write(
    model, corpus: Corpus, seed: int, temperature: float, length: int, words: list[int]
) -> list[dict]:
    device = next(model.parameters()).device
    prompts = torch.tensor([[corpus.index[EOS]] * len(words), words], device=device)  # (2, B)
    generator = torch.Generator().manual_seed(seed)
    written = generate_rows(model, prompts, length, temperature, generator)  # (length, B)
    return [
        {"temperature": temperature, "start": corpus.words[word], "text": corpus.text(ids)}
        for word, ids in zip(words, written.T.tolist(), strict=True)
    ]


def repetition(text: str) -> float:
    """The share of a text's groups of three words that stand in it before; 0 where it has none."""
    words = text.split()
    groups = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(groups)) / len(groups) if groups else 0.0
