"""What models write: texts from distinct starts, read again by another model, and picked by rule.

A model's greedy text from one start is always the same, so each text has a start of its own: one
of the words that most often begin a sentence of the training text.
"""

import math

import pandas as pd
import torch

from ptb.corpus import UNK, Corpus, load
from ptb.evaluation import encode, generate_rows, load_model, surprise
from ptb.runs import Run
from ptb.setting import Setting
from ptb.source import EOS

TEXTS = 10  # of each kind
PICKS = 3


def starts(corpus: Corpus, count: int) -> list[int]:
    """The words that begin most of the training sentences, as ids; no `<unk>`, no `<eos>`.

    Where there are too few of them, other words follow; as many as the vocabulary has.
    """
    ids, index = corpus["train"], corpus.index
    begins = torch.bincount(ids[1:][ids[:-1] == index[EOS]], minlength=len(corpus.words))
    order = begins.argsort(descending=True, stable=True).tolist()
    return [word for word in order if word not in (index[EOS], index.get(UNK))][:count]


def write_texts(model, corpus: Corpus, bptt: int) -> list[dict]:
    """Greedy texts of bptt and of twice as many words, and sampled ones at temperature 1.

    Ten of each kind, from the zero state, `<eos>` and a start; no two greedy ones have one start.
    """
    words = starts(corpus, 2 * TEXTS)
    kinds = ((0.0, bptt, words[::2]), (0.0, 2 * bptt, words[1::2]), (1.0, bptt, words[::2]))
    return [text for kind in kinds for text in _write(model, corpus, *kind)]


def _write(model, corpus: Corpus, temperature: float, length: int, words: list[int]) -> list[dict]:
    device = next(model.parameters()).device
    prompts = torch.tensor([[corpus.index[EOS]] * len(words), words], device=device)  # (2, B)
    generator = torch.Generator().manual_seed(1)
    written = generate_rows(model, prompts, length, temperature, generator)  # (length, B)
    return [
        {"temperature": temperature, "start": corpus.words[word], "text": corpus.text(ids)}
        for word, ids in zip(words, written.T.tolist(), strict=True)
    ]


# ---------------------------------------------------------------- how good a text is
def repetition(text: str) -> float:
    """The share of a text's groups of three words that stand in it before; 0 where it has none."""
    words = text.split()
    groups = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(groups)) / len(groups) if groups else 0.0


def judges(settings: list[Setting], valid: list[float]) -> list[int]:
    """For each run the place of its judge: the best on validation of those with another cell.

    So no model reads texts of its own kind. A run that no other cell stands beside has −1.
    """
    order = sorted(range(len(settings)), key=valid.__getitem__)
    return [
        next((n for n in order if settings[n].cell != setting.cell), -1) for setting in settings
    ]


def judge(runs: list[Run]) -> None:
    """Has each run's texts read by its judge, and records what they cost it: judged.json.

    "losses" has a text's mean loss in nats a word, given its start; "real" is the judge's loss on
    the validation split. The runs are of one study and have weights and texts; all are judged anew,
    as a run that is new may be a better judge.
    """
    runs = [run for run in runs if run.texts and (run.folder / "weights.safetensors").exists()]
    valid = [_real(run.metrics) for run in runs]
    chosen = judges([run.setting for run in runs], valid)
    for place in {*chosen} - {-1}:
        corpus = load(runs[place].setting.corpus)
        model = load_model(runs[place], corpus)
        for run, by in zip(runs, chosen, strict=True):
            if by == place:
                losses = [_loss(model, corpus, text) for text in run.texts]
                record = {"judge": runs[place].folder.name, "real": valid[place], "losses": losses}
                run.write("judged.json", record)


def _real(metrics: dict) -> float:
    """A run's loss on validation, read as it reads texts: a Transformer's windows slide."""
    return metrics.get("sliding", metrics)["valid"]["loss"]


def _loss(model, corpus: Corpus, text: dict) -> float:
    bits = surprise(model, corpus, encode(corpus, f"{text['start']} {text['text']}"))[1:]
    return round(math.log(2) * sum(bits) / len(bits), 4)


def frame(run: Run) -> pd.DataFrame:
    """A run's texts, a row each: temperature, start, text, words, repetition and loss.

    loss is the judge's for the text less its loss on real text, nats a word; NaN without a judge.
    """
    table = pd.DataFrame(run.texts)
    table["words"] = [len(text.split()) for text in table["text"]]
    table["repetition"] = [repetition(text) for text in table["text"]]
    judged = run.judged
    table["loss"] = [loss - judged["real"] for loss in judged["losses"]] if judged else math.nan
    return table


def picks(texts: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Three best, worst and interesting texts, by rule alone; texts are rows of `frame`.

    The worst repeat most. Of the half that repeats least, the best are the likeliest to the other
    model and the interesting ones the least likely.
    """
    by_repetition = texts.sort_values(["repetition", "loss"], kind="stable")
    fresh = by_repetition.head(len(texts) // 2).sort_values("loss", kind="stable")
    return {
        "best": fresh.head(PICKS),
        "worst": by_repetition[len(texts) // 2 :].tail(PICKS)[::-1],
        "interesting": fresh[PICKS:].tail(PICKS)[::-1],
    }
