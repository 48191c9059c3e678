"""What a model makes of given sentences: the loss of each word, and their perplexity."""

from itertools import chain
from typing import NamedTuple

import torch

from ptb.data.corpus import EOS, Corpus
from ptb.errors import CorpusError
from ptb.evaluation.generation import encode
from ptb.evaluation.perplexity import perplexity, text_losses


class Scored(NamedTuple):
    """words has each word as it was given, as the model knows it, and its loss in nats."""

    words: list[tuple[str, str, float]]
    loss: float
    perplexity: float


def score_sentences(model, corpus: Corpus, lines: list[str], independent: bool = False) -> Scored:
    """The loss of each word of the sentences, an `<eos>` behind each, given the words before it.

    A word that the vocabulary lacks counts as `<unk>`. The sentences follow one another, unless
    they are independent: then each begins anew, as after the end of another. Raises CorpusError
    where there is no word, SettingError for an unknown word in a corpus without `<unk>`.
    """
    sentences = [[*line.split(), EOS] for line in lines if line.strip()]
    if not sentences:
        raise CorpusError("there is no word to score: give a sentence, or a line per sentence")
    texts = sentences if independent else [list(chain.from_iterable(sentences))]
    words = []
    for given in texts:
        ids = encode(corpus, " ".join(given))
        text = torch.tensor([corpus.index[EOS], *ids])  # a sentence begins behind another's end
        losses = text_losses(model, text)
        known = (corpus.words[i] for i in ids)
        words += zip(given, known, losses.tolist(), strict=True)
    loss = sum(loss for *_, loss in words) / len(words)
    return Scored(words, loss, perplexity(torch.tensor(loss)))
