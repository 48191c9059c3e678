"""`train`: a setting trained to its end, from its checkpoint on, and measured."""

import math
from collections.abc import Callable
from pathlib import Path

from ptb.data.corpus import HELD_OUT, Corpus, windows
from ptb.errors import RunError, out_of_memory
from ptb.evaluation.analysis import analyse, step_losses, unigram
from ptb.evaluation.generation import write_samples, write_texts
from ptb.evaluation.gradient_flow import gradient_flow
from ptb.evaluation.perplexity import measure, sliding_losses, summary, token_losses
from ptb.models.language_model import LanguageModel
from ptb.models.precision import use_precision
from ptb.runs.files import NEXT_WEIGHTS, WEIGHTS
from ptb.runs.run import Run, load_model
from ptb.setting import Setting
from ptb.training.trainer import Diverged, Trainer, check_device, offsets


def train(
    setting: Setting,
    corpus: Corpus,
    folder: Path | str,
    on_epoch: Callable | None = None,
    on_step: Callable | None = None,
    device: str = "cpu",
    on_measure: Callable | None = None,
) -> dict:
    """Trains to the end, from the last finished epoch where there is one; returns the metrics.

    on_epoch(rows) gets the history's rows so far, at the start and after each epoch;
    on_step(epochs finished, fraction of this one, running perplexity) each update; on_measure(what)
    what is measured next of the saved weights, at the end: a split, "sliding" for a Transformer,
    then "texts". A run that is done is not trained again. Raises RunError where the folder is
    another setting's or text's or in use, and, before there is one, SettingError for the device or
    the precision that it lacks and CorpusError where the training split is too short for the rows.
    """
    check_device(device)
    ids = corpus["train"]
    windows(ids, setting.batch_size, setting.bptt, offsets(setting, ids) - 1)  # raises if short
    run = Run(folder)
    precise = use_precision(setting.precision, device)
    with precise, run.writing(setting, corpus.fingerprint):
        try:
            return _train(setting, corpus, run, on_epoch, on_step, device, on_measure)
        except KeyboardInterrupt:
            raise RunError(_stopped(len(run.history))) from None
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            reason = str(error).splitlines()[0] if str(error) else "MemoryError"
            raise RunError(
                f"too little memory for {setting.name} on {device}: a smaller batch_size, bptt or "
                f"hidden needs less ({reason})"
            ) from None


def _stopped(epochs: int) -> str:
    if not epochs:
        return "stopped in its first epoch, of which nothing is kept: started again, it begins anew"
    return f"stopped after epoch {epochs}: start it again and it goes on from there"


def _train(setting, corpus, run, on_epoch, on_step, device, on_measure) -> dict:
    if run.done:
        if on_epoch:
            on_epoch(run.history.to_dict("records"))
        return run.metrics
    trainer, reason = Trainer(setting, corpus, device), None
    if (checkpoint := run.read_checkpoint()) is not None:
        trainer.resume(checkpoint)
        run.settle_weights(trainer.saved)
        run.read_weights(trainer.saved)  # raises now where they are lost, not at the end
    else:  # without its checkpoint the run begins anew: old weights are not its own
        run.remove(NEXT_WEIGHTS)
        run.remove(WEIGHTS)
    run.write_history(trainer.history)
    if on_epoch:
        on_epoch(trainer.history)
    try:
        while trainer.epoch < setting.epochs:
            row = trainer.run_epoch(on_step)
            _save(trainer, run, improved=row is trainer.best)
            if on_epoch:
                on_epoch(trainer.history)
    except Diverged as error:
        reason = str(error)
    return _finish(trainer, run, reason, on_measure or (lambda what: None))


def _save(trainer: Trainer, run: Run, improved: bool) -> None:
    """Weights if they are the best, the checkpoint, by which the epoch counts, then its history."""
    if improved:
        trainer.saved = run.write_weights(trainer.weights(), trainer.corpus.words)
    run.write_checkpoint(trainer.state())
    run.settle_weights(trainer.saved)
    run.write_history(trainer.history)


def _finish(trainer: Trainer, run: Run, reason: str | None, on_measure: Callable) -> dict:
    """Measures the saved, rounded weights on every token of every split, and closes the run.

    Its products are exact, whatever those of training: others measure the weights again. reason
    says why it diverged; None: it did not.
    """
    measured = {"best_epoch": None}
    try:
        if trainer.best:
            with use_precision("float32", trainer.device.type):
                found = _measure(trainer, run, on_measure)
            measured = {"best_epoch": trainer.best["epoch"]} | found
    except Diverged as error:
        reason = reason or str(error)
    metrics = {"status": "diverged", "reason": reason} if reason else {"status": "finished"}
    metrics |= {"floor": trainer.corpus.floor, "types": len(trainer.corpus.words)}
    metrics |= {"device": trainer.device_name}
    metrics["parameters"] = sum(p.numel() for p in trainer.parameters)
    return run.finish(metrics | measured)


def _measure(trainer: Trainer, run: Run, on_measure: Callable) -> dict:
    """Raises Diverged where the rounded weights have a perplexity that is not finite."""
    model, measured = load_model(run, trainer.corpus, trainer.saved).to(trainer.device), {}
    on_measure("test")
    test = token_losses(model, trainer.splits["test"])
    for split in ("valid", "train"):  # the longest last, when one can tell how long it takes
        on_measure(split)
        measured[split] = measure(model, trainer.splits[split])
    measured["test"] = summary(test)
    sliding = {}
    if model.window:  # of the training split it would take as long as its training
        on_measure("sliding")
        sliding = {s: summary(sliding_losses(model, trainer.splits[s])) for s in HELD_OUT}
    found = measured | {f"{split}, sliding": summed for split, summed in sliding.items()}
    perplexities = {name: summed["perplexity"] for name, summed in found.items()}
    if not all(map(math.isfinite, perplexities.values())):
        raise Diverged(f"perplexities {perplexities} of the saved weights")
    if sliding:
        measured["sliding"] = sliding
    on_measure("texts")
    name, bptt = trainer.setting.name, trainer.setting.bptt
    run.write("samples.json", write_samples(model, trainer.corpus, name))
    run.write("texts.json", write_texts(model, trainer.corpus, name, bptt))
    analysis = analyse(trainer.corpus, test) | _look_inside(trainer, model)
    run.write("analysis.json", analysis, indent=None)
    return measured


def _look_inside(trainer: Trainer, model: LanguageModel) -> dict:
    """What the second exercise asks about a trained model: its loss by step, its gradients' flow.

    And the yardstick that tells whether it learned at all.
    """
    setting, train_ids = trainer.setting, trainer.splits["train"]
    found = {"steps": step_losses(model, trainer.splits["valid"], setting.bptt)}
    found["unigram"] = unigram(trainer.corpus)
    if not model.window:
        models = {"before": trainer.initial_model(), "after": model}
        sizes = setting.batch_size, setting.bptt
        found["flow"] = {when: gradient_flow(m, train_ids, *sizes) for when, m in models.items()}
    return found
