"""What finished models reach with more than one fixed model: rows beside the study's own.

A softmax temperature, dynamic evaluation (Krause et al. 2018), an ensemble. What they need is
chosen on validation; the test split is measured once. `python -m ptb adapt STUDY` measures the
runs of your study, or those that are named behind it, and writes runs/STUDY/adaptation.json.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

from ptb.data.corpora import load
from ptb.data.corpus import HELD_OUT, Corpus, windows
from ptb.errors import StudyError, closest, meant
from ptb.evaluation.perplexity import perplexity, token_losses
from ptb.models.language_model import LanguageModel
from ptb.runs.environment import environment
from ptb.runs.files import ADAPTED, write_json
from ptb.runs.run import Run, load_model
from ptb.runs.table import find_runs, read_adapted
from ptb.training.trainer import LARGEST_LOSS

TEMPERATURES = (0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2)
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)  # of dynamic evaluation, for the mean loss of a window
DECAYS = (0.002, 0.0, 0.01)  # a window, towards the trained weights; rates meet the first
UPDATE_EVERY = 5  # tokens between updates, as in Krause et al.
PART = 15_000  # tokens of validation that choose rate and decay: the whole would take hours


def heated(model: LanguageModel, temperature: float) -> LanguageModel:
    """A copy whose next-word probabilities are softmax(logits / temperature)."""
    copied = copy.deepcopy(model)
    with torch.no_grad():
        if copied.output.weight is copied.embedding.weight:  # tied: the embedding stays as it is
            copied.output.weight = torch.nn.Parameter(copied.output.weight.clone())
        copied.output.weight.div_(temperature)
        copied.output.bias.div_(temperature)
    return copied


def ensemble(losses: list[Tensor]) -> Tensor:
    """Each token's loss in nats, (n,), of the mean of the models' probabilities."""
    return math.log(len(losses)) - torch.stack([-loss for loss in losses]).logsumexp(0)


def dynamic_perplexity(model: LanguageModel, ids: Tensor, lr: float, decay: float) -> float:
    """Perplexity of a split's ids (n,) with the weights adapted to what was read so far.

    Each window is scored first; then θ ← θ − lr ∇L and θ ← θ + decay (θ₀ − θ), dropout off. The
    split is read as one row: with several side by side, a model would have read what comes later
    in the text. Infinite where the weights blow up.
    """
    adapted = copy.deepcopy(model).eval()
    parameters = list(adapted.parameters())
    start = [p.detach().clone() for p in parameters]
    state, total = adapted.initial_state(1), 0.0
    for x, y in windows(ids, 1, UPDATE_EVERY):
        loss, state = adapted.loss(x, y, state)
        total += loss.item() * len(y)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            torch._foreach_add_(parameters, gradients, alpha=-lr)
            torch._foreach_lerp_(parameters, start, decay)
    mean = total / (len(ids) - 1)
    return math.exp(mean) if mean < LARGEST_LOSS else math.inf


def _at_best_temperature(model: LanguageModel, corpus: Corpus) -> dict:
    valid = {t: perplexity(token_losses(heated(model, t), corpus["valid"])) for t in TEMPERATURES}
    best = min(valid, key=valid.get)
    test = perplexity(token_losses(heated(model, best), corpus["test"]))
    return {"kind": "temperature", "chosen": f"{best:g}", "valid": valid[best], "test": test}


def _dynamically(model: LanguageModel, corpus: Corpus) -> dict:
    """The rate and then the decay by a part of the validation split, then both splits with them."""
    tried = partial(dynamic_perplexity, model, corpus["valid"][:PART])
    lr = min(RATES, key=lambda rate: tried(rate, DECAYS[0]))
    decay = min(DECAYS, key=lambda decay: tried(lr, decay))
    found = {split: dynamic_perplexity(model, corpus[split], lr, decay) for split in HELD_OUT}
    return {"kind": "dynamic evaluation", "chosen": f"rate {lr:g}, decay {decay:g}"} | found


def _together(models: list[LanguageModel], corpus: Corpus) -> dict:
    found = {
        split: perplexity(ensemble([token_losses(model, corpus[split]) for model in models]))
        for split in HELD_OUT
    }
    return {"kind": "ensemble", "chosen": "equal weights"} | found


def _recorded(way: Callable, *case) -> dict:
    """What a way finds, with its minutes and the environment."""
    start = time.perf_counter()
    found = way(*case)
    minutes = (time.perf_counter() - start) / 60
    return found | {"minutes": round(minutes, 1), "environment": environment()}


def adapt(runs: list[Run]) -> Iterator[dict]:
    """A row for each run and kind: what was chosen on validation, and both perplexities.

    The last row is the ensemble of several runs. They are of one corpus and have weights. Where
    weights blow up, the perplexities are infinite.
    """
    corpus = load(runs[0].setting.corpus)
    models = [load_model(run, corpus) for run in runs]
    for run, model in zip(runs, models, strict=True):
        ways = [_at_best_temperature]
        if not model.window:  # a Transformer carries no state: it would see UPDATE_EVERY words
            ways.append(_dynamically)
        for way in ways:
            yield {"run": run.folder.name} | _recorded(way, model, corpus)
    if len(runs) > 1:
        names = [run.folder.name for run in runs]
        yield {"run": "", "runs": names} | _recorded(_together, models, corpus)


def adapt_study(study: Path, names: list[str]) -> None:
    """Measures a study's runs, or those of its folders that are named.

    Each row replaces its like in the study's adaptation.json as soon as it is measured, for it can
    take a quarter of an hour. Rows of runs that are no longer there go, and so does a row whose way
    now blows the weights up: JSON has no infinity.
    """
    runs = _with_weights(study, names)
    read_adapted(study)  # raises where it is damaged, before anything is measured
    for row in adapt(runs):
        print(f"{row['run'] or 'ensemble'}: {row['kind']}, {row['chosen']}: ", end="")
        print(f"{row['valid']:.2f} / {row['test']:.2f} ({row['minutes']} minutes)", flush=True)
        there = {run.folder.name for run in find_runs(study)}
        with FileLock(study / f".{ADAPTED}.lock"):  # another call may measure other runs of it
            rows = {measured(old): old for old in read_adapted(study)}
            rows = {(kind, of): old for (kind, of), old in rows.items() if set(of) <= there}
            if math.isfinite(row["valid"]) and math.isfinite(row["test"]):
                rows[measured(row)] = row
            else:
                rows.pop(measured(row), None)
            write_json(study / ADAPTED, list(rows.values()))


def measured(row: dict) -> tuple[str, tuple[str, ...]]:
    """What a row is of: the kind, and the names of the run or of an ensemble's runs."""
    return row["kind"], tuple(sorted(row.get("runs", [row["run"]])))


def _with_weights(study: Path, names: list[str]) -> list[Run]:
    """The study's finished runs that have weights, or those of them that are named."""
    if not study.is_dir():
        known = [path.name for path in study.parent.glob("*/")]
        probably = closest(study.name, known) or ": train it first"
        raise StudyError(f"{study.parent.name}/ has no study {study.name!r}{probably}")
    runs = [run for run in find_runs(study) if run.has_weights]
    there = {run.folder.name: run for run in runs}
    if not runs:
        raise StudyError(f"no finished run with weights in {study}: train the study first")
    for name in names:
        if name not in there:
            known = meant(name, list(there))
            raise StudyError(f"no finished run with weights is called {name!r}: {known}")
    return [there[name] for name in names] or runs
