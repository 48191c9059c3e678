"""ptb.training: runs learn, and a stopped run goes on as if it never stopped."""

import json
import math
from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from conftest import make_corpus
from test_language_model import KINDS
from test_perplexity import word_by_word
from torture import CASES, results

from ptb.errors import CorpusError, RunError, SettingError
from ptb.evaluation.analysis import step_losses, unigram
from ptb.evaluation.gradient_flow import gradient_flow
from ptb.evaluation.perplexity import perplexity, token_losses
from ptb.runs.files import HISTORY
from ptb.runs.run import Run, load_model
from ptb.runs.table import faults
from ptb.training.train import train
from ptb.training.trainer import Trainer

FILES = {
    "setting.json",
    "history.csv",
    "weights.safetensors",
    "samples.json",
    "texts.json",
    "analysis.json",
    "metrics.json",
}


# ---------------------------------------------------------------- a run
@pytest.fixture
def finished(tiny_setting, tiny_corpus, tmp_path) -> Run:
    train(tiny_setting(epochs=5), tiny_corpus, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.mark.parametrize(("cell", "reset"), KINDS)
def test_training_learns(cell, reset, tiny_setting, tiny_corpus, tmp_path):
    setting = tiny_setting(cell=cell, reset=reset, epochs=6)
    before = perplexity(token_losses(Trainer(setting, tiny_corpus).model, tiny_corpus["valid"]))
    metrics = train(setting, tiny_corpus, tmp_path)
    assert before > 6
    assert metrics["valid"]["perplexity"] < 2.2  # one of four sentences, 4.5 words each: about 1.4
    assert metrics["status"] == "finished"


def test_run_records_flow_of_its_first_and_its_saved_weights(finished, tiny_corpus):
    """And the loss at each step of a window, beside what word frequencies alone give."""
    corpus, setting, found = tiny_corpus, finished.setting, finished.analysis
    models = {"before": Trainer(setting, corpus).model, "after": load_model(finished, corpus)}
    sizes = setting.batch_size, setting.bptt
    for when, model in models.items():
        assert found["flow"][when] == gradient_flow(model, corpus["train"], *sizes)
    assert found["steps"] == step_losses(models["after"], corpus["valid"], setting.bptt)
    assert found["unigram"] == unigram(corpus)


def test_run_leaves_all_its_files_and_nothing_else(finished):
    names = {path.name for path in finished.folder.iterdir()}
    assert names == FILES | {".lock", ".writer"}


def test_history_has_a_row_an_epoch(finished):
    history = finished.history
    assert list(history.columns) == HISTORY
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert history["lr"].tolist() == pytest.approx([5.0, 4.0, 3.0, 2.0, 1.0])
    assert (history["seconds"].diff()[1:] > 0).all()
    assert history.notna().all(axis=None)


def test_metrics_are_those_of_the_saved_weights_measured_independently(finished, tiny_corpus):
    model = load_model(finished, tiny_corpus).double().eval()
    for split, ids in tiny_corpus.splits.items():
        losses, found = word_by_word(model, ids, 10), finished.metrics[split]
        assert found["loss"] == pytest.approx(losses.mean().item(), abs=1e-5)
        assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
        assert found["tokens"] == len(ids) - 1


def test_metrics_say_what_the_run_was(finished, tiny_corpus):
    metrics, history = finished.metrics, finished.history
    assert metrics["best_epoch"] == history.loc[history["valid"].idxmin(), "epoch"]
    assert metrics["valid"]["perplexity"] == pytest.approx(history["valid"].min(), rel=0.01)
    assert metrics["types"] == len(tiny_corpus.words)
    assert metrics["parameters"] == sum(w.numel() for w in finished.read_weights()[0].values())
    assert metrics["floor"] == {}


def test_samples_and_analysis_are_of_this_corpus(finished, tiny_corpus):
    assert set(finished.samples[0]["text"].split()) <= set(tiny_corpus.words)
    assert sum(finished.analysis["sentences"]["tokens"]) == len(tiny_corpus["test"]) - 1


def test_weights_kept_are_the_best_on_validation_not_the_last(
    tiny_setting, tiny_corpus, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "ptb.training.trainer.learning_rate", lambda _, epoch, *__: (5, 5, 100)[epoch]
    )
    metrics = train(tiny_setting(epochs=3), tiny_corpus, tmp_path)
    history = Run(tmp_path).history
    best, last = history["valid"].min(), history["valid"].iloc[-1]
    assert last > 2 * best
    assert metrics["valid"]["perplexity"] == pytest.approx(best, rel=0.02)


def test_history_measures_training_on_a_part_as_long_as_validation(tiny_setting, tiny_corpus):
    trainer = Trainer(tiny_setting(dropout=0.5), tiny_corpus)
    row = trainer.run_epoch()
    part = tiny_corpus["train"][: len(tiny_corpus["valid"])]
    assert row["train"] == perplexity(token_losses(trainer.model, part))
    assert row["test"] == perplexity(token_losses(trainer.model, tiny_corpus["test"]))


def test_what_is_measured_at_the_end_is_announced(tiny_setting, tiny_corpus, tmp_path):
    said = []
    train(tiny_setting(epochs=1), tiny_corpus, tmp_path, on_measure=said.append)
    assert said == ["test", "valid", "train", "texts"]


def test_a_run_stopped_in_its_first_epoch_says_that_nothing_is_kept(
    tiny_setting, tiny_corpus, tmp_path
):
    def stop(epoch, fraction, running):
        raise KeyboardInterrupt

    with pytest.raises(RunError, match="first epoch, of which nothing is kept: started again"):
        train(tiny_setting(), tiny_corpus, tmp_path, on_step=stop)


def test_steps_report_epoch_fraction_and_running_perplexity(tiny_setting, tiny_corpus, tmp_path):
    steps, rows = [], []
    train(tiny_setting(), tiny_corpus, tmp_path, rows.append, lambda *step: steps.append(step))
    assert [epoch for epoch, fraction, _ in steps if fraction == 1] == [0, 1]
    assert steps == sorted(steps, key=lambda step: step[:2])
    ends = [running for _, fraction, running in steps if fraction == 1]
    assert ends == [row["train_running"] for row in rows[-1]]


def test_epochs_get_the_history_so_far_from_the_start_on(tiny_setting, tiny_corpus, tmp_path):
    lengths = []
    train(tiny_setting(), tiny_corpus, tmp_path, lambda rows: lengths.append(len(rows)))
    assert lengths == [0, 1, 2]


def test_tied_model_trains_and_is_saved_once(tiny_setting, tiny_corpus, tmp_path):
    metrics = train(tiny_setting(tied=True), tiny_corpus, tmp_path)
    weights, _ = Run(tmp_path).read_weights()
    assert "output.weight" not in weights
    assert metrics["parameters"] == sum(w.numel() for w in weights.values())
    valid = Run(tmp_path).history["valid"].min()
    assert metrics["valid"]["perplexity"] == pytest.approx(valid, rel=0.01)


def snapshot(folder) -> dict:
    files = (path for path in folder.iterdir() if not path.name.startswith("."))
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_finished_run_is_not_trained_again(finished, tiny_setting, tiny_corpus):
    before, shown = snapshot(finished.folder), []

    def never(*step):
        pytest.fail("trained again")

    metrics = train(tiny_setting(epochs=5), tiny_corpus, finished.folder, shown.append, never)
    assert metrics == finished.metrics
    assert snapshot(finished.folder) == before
    assert [len(rows) for rows in shown] == [5]


def test_folder_of_another_setting_is_not_trained_in(finished, tiny_setting, tiny_corpus):
    before = snapshot(finished.folder)
    with pytest.raises(RunError, match="another setting"):
        train(tiny_setting(epochs=6), tiny_corpus, finished.folder)
    assert snapshot(finished.folder) == before


@pytest.mark.parametrize("epochs", [1, 2])
def test_folder_of_another_text_is_not_trained_in(epochs, tiny_setting, tiny_corpus, tmp_path):
    """Neither where the run is done nor where it would go on."""
    stop = stop_after_epoch(epochs, KeyboardInterrupt) if epochs < 2 else {}
    with suppress(RunError):
        train(tiny_setting(), tiny_corpus, tmp_path, **stop)
    turned = {split: ids.flip(0) for split, ids in tiny_corpus.splits.items()}
    with pytest.raises(RunError, match="holds a run on another text: choose another folder"):
        train(tiny_setting(), replace(tiny_corpus, splits=turned), tmp_path)
    assert len(Run(tmp_path).history) == epochs


def test_a_lost_checkpoint_takes_the_lost_training_with_it(tiny_setting, tiny_corpus, tmp_path):
    with pytest.raises(RunError, match="stopped after epoch 1"):
        train(tiny_setting(), tiny_corpus, tmp_path, **stop_after_epoch(1, KeyboardInterrupt))
    (tmp_path / "checkpoint.pt").unlink()
    with pytest.raises(RunError, match="stopped in its first epoch"):
        train(tiny_setting(), tiny_corpus, tmp_path, **stop_after_epoch(0, KeyboardInterrupt))
    assert Run(tmp_path).history.empty and not (tmp_path / "weights.safetensors").exists()


# ---------------------------------------------------------------- stopped and started again
@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The results of a setting's run that is never stopped, computed once."""
    known = {}

    def get(setting, corpus):
        if setting not in known:
            folder = tmp_path_factory.mktemp(setting.name)
            train(setting, corpus, folder)
            known[setting] = results(folder)
        return known[setting]

    return get


class Stop(Exception):
    """What ends a process in the middle."""


def stop_after_epoch(number, error):
    def on_epoch(rows):
        if len(rows) == number:
            raise error

    return {"on_epoch": on_epoch}


def stop_within_epoch(number, error):
    def on_step(epochs_finished, fraction, running):
        if epochs_finished == number and fraction > 0.5:
            raise error

    return {"on_step": on_step}


@pytest.mark.parametrize("stop", [stop_after_epoch, stop_within_epoch])
@pytest.mark.parametrize("case", CASES)
def test_stopped_run_ends_bit_for_bit_as_if_never_stopped(
    case, stop, tiny_setting, tiny_corpus, tmp_path, uninterrupted
):
    setting = tiny_setting(epochs=4, **CASES[case])
    for number in (1, 3):
        with pytest.raises(Stop):
            train(setting, tiny_corpus, tmp_path, **stop(number, Stop()))
        assert len(Run(tmp_path).history) == number
        assert not Run(tmp_path).done
    train(setting, tiny_corpus, tmp_path)
    assert results(tmp_path) == uninterrupted(setting, tiny_corpus)


def test_plateau_cuts_the_rate_after_each_epoch_that_is_no_better(
    tiny_setting, tiny_corpus, tmp_path
):
    unmoved = tiny_setting(epochs=4, schedule="plateau", lr=1e-30, decay=0.5)
    train(unmoved, tiny_corpus, tmp_path)
    history = Run(tmp_path).history
    assert history["valid"].nunique() == 1
    assert history["lr"].tolist() == pytest.approx([1e-30, 1e-30, 5e-31, 2.5e-31], abs=0)


def test_plateau_keeps_the_rate_while_validation_improves(tiny_setting, tiny_corpus):
    trainer = Trainer(tiny_setting(epochs=4, schedule="plateau", lr=0.2), tiny_corpus)
    valid = [trainer.run_epoch()["valid"] for _ in range(4)]
    assert valid == sorted(valid, reverse=True)
    assert [row["lr"] for row in trainer.history] == [0.2] * 4


@pytest.mark.parametrize(
    ("method", "epochs", "call"),
    [
        ("write_weights", 1, 1),
        ("write_weights", 3, 2),
        ("write_checkpoint", 1, 1),
        ("write_checkpoint", 3, 2),
        ("write_history", 3, 2),
        ("write", 3, 2),  # samples.json, then analysis.json
        ("finish", 3, 1),
    ],
)
def test_run_that_fails_while_writing_goes_on_from_there(
    method, epochs, call, tiny_setting, tiny_corpus, tmp_path, monkeypatch, uninterrupted
):
    setting, calls = tiny_setting(epochs=epochs, **CASES["momentum"]), []
    write = getattr(Run, method)

    def failing(self, *arguments, **options):
        calls.append(method)
        if len(calls) == call:
            raise OSError("disk full")
        return write(self, *arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(Run, method, failing)
        train(setting, tiny_corpus, tmp_path)
    train(setting, tiny_corpus, tmp_path)
    assert results(tmp_path) == uninterrupted(setting, tiny_corpus)


def test_too_little_memory_is_one_line_and_another_error_stays_itself(
    tiny_setting, tiny_corpus, tmp_path, monkeypatch
):
    def failing(message):
        def step(*_):
            raise RuntimeError(message)

        return step

    monkeypatch.setattr(Trainer, "step", failing("CUDA out of memory. Tried to allocate 2 GiB"))
    with pytest.raises(RunError, match="too little memory for lstm.* on cpu: a smaller batch_size"):
        train(tiny_setting(), tiny_corpus, tmp_path)
    monkeypatch.setattr(Trainer, "step", failing("another"))
    with pytest.raises(RuntimeError, match="^another$"):
        train(tiny_setting(), tiny_corpus, tmp_path)


def test_a_gpu_that_is_not_there_is_one_line_and_leaves_no_folder(
    tiny_setting, tiny_corpus, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingError, match="needs a GPU and a torch built for it"):
        train(tiny_setting(), tiny_corpus, tmp_path / "run", device="cuda")
    assert not (tmp_path / "run").exists()


def test_without_an_offset_a_text_need_fill_its_rows_from_its_start_alone(tiny_setting, tmp_path):
    corpus = make_corpus(train=41)
    short = tiny_setting(epochs=1, bptt=35, batch_size=30)
    with pytest.raises(CorpusError, match="from offset"):
        train(short, corpus, tmp_path / "offset")
    assert train(replace(short, random_offset=False), corpus, tmp_path)["status"] == "finished"


def test_a_run_stopped_between_its_weights_and_its_checkpoint_keeps_the_best_it_has(
    tiny_setting, tiny_corpus, tmp_path, monkeypatch
):
    """Elsewhere the epoch that is repeated may come out otherwise; here it is worse."""

    def failing(self, state):
        raise OSError("disk full")

    with pytest.raises(Stop):
        train(tiny_setting(), tiny_corpus, tmp_path, **stop_after_epoch(1, Stop()))
    first = (tmp_path / "weights.safetensors").read_bytes()
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(Run, "write_checkpoint", failing)
        train(tiny_setting(), tiny_corpus, tmp_path)
    assert (tmp_path / "weights.next.safetensors").read_bytes() != first
    monkeypatch.setattr("ptb.training.trainer.learning_rate", lambda *_: 100.0)
    assert train(tiny_setting(), tiny_corpus, tmp_path)["best_epoch"] == 1
    assert (tmp_path / "weights.safetensors").read_bytes() == first
    assert not (tmp_path / "weights.next.safetensors").exists()


@pytest.mark.parametrize("stop", [stop_after_epoch, stop_within_epoch])
def test_interrupted_run_says_where_it_goes_on(stop, tiny_setting, tiny_corpus, tmp_path):
    with pytest.raises(RunError, match="stopped after epoch 1: start it again") as error:
        train(tiny_setting(), tiny_corpus, tmp_path, **stop(1, KeyboardInterrupt()))
    assert "\n" not in str(error.value)


def test_seconds_add_up_over_a_stop(tiny_setting, tiny_corpus, tmp_path):
    with pytest.raises(Stop):
        train(tiny_setting(), tiny_corpus, tmp_path, **stop_after_epoch(1, Stop()))
    before = Run(tmp_path).history["seconds"].iloc[0]
    train(tiny_setting(), tiny_corpus, tmp_path)
    after = Run(tmp_path).history["seconds"]
    assert after.iloc[0] == before
    assert after.iloc[1] > before


def test_seed_makes_the_run(tiny_setting, tiny_corpus, tmp_path):
    settings = [tiny_setting(dropout=0.3), tiny_setting(dropout=0.3)]
    settings.append(replace(settings[0], seed=2))
    for n, setting in enumerate(settings):
        torch.manual_seed(n)  # what was drawn before does not matter
        train(setting, tiny_corpus, tmp_path / str(n))
    one, again, other = (results(tmp_path / str(n)) for n in range(3))
    assert one == again
    assert one[0]["valid"] != other[0]["valid"]


# ---------------------------------------------------------------- diverged
def blow_up(when):
    """A schedule by which the rate is enormous from the time on that `when` names."""
    return lambda setting, epoch, fraction, cuts=0: 1e30 if when(epoch, fraction) else setting.lr


def diverge(setting, corpus, folder, monkeypatch, when) -> Run:
    monkeypatch.setattr("ptb.training.trainer.learning_rate", blow_up(when))
    assert train(setting, corpus, folder)["status"] == "diverged"
    return Run(folder)


def test_diverged_run_keeps_what_was_best(tiny_setting, tiny_corpus, tmp_path, monkeypatch):
    setting = tiny_setting(epochs=4, clip=0.0, lr=2.0)
    run = diverge(setting, tiny_corpus, tmp_path, monkeypatch, lambda epoch, _: epoch == 2)
    history = run.history
    assert history["epoch"].tolist() == [1, 2]
    assert run.metrics["best_epoch"] == 2
    assert "epoch 3" in run.metrics["reason"]
    valid = perplexity(token_losses(load_model(run, tiny_corpus), tiny_corpus["valid"]))
    assert run.metrics["valid"]["perplexity"] == pytest.approx(valid)
    assert valid == pytest.approx(history["valid"].min(), rel=0.01)


def test_run_that_diverges_in_its_first_epoch_is_done_without_weights(
    tiny_setting, tiny_corpus, tmp_path, monkeypatch
):
    setting = tiny_setting(clip=0.0)
    run = diverge(setting, tiny_corpus, tmp_path, monkeypatch, lambda epoch, _: True)
    assert run.done
    assert run.metrics["best_epoch"] is None
    assert not (tmp_path / "weights.safetensors").exists()
    assert train(setting, tiny_corpus, tmp_path, on_step=pytest.fail) == run.metrics


def test_last_step_of_an_epoch_can_diverge_too(tiny_setting, tiny_corpus, tmp_path, monkeypatch):
    setting = tiny_setting(epochs=3, clip=0.0, lr=2.0)
    steps = len(list(tiny_corpus["train"])) // 4 // 5  # at least that many windows an epoch
    run = diverge(
        setting,
        tiny_corpus,
        tmp_path,
        monkeypatch,
        lambda epoch, fraction: epoch == 1 and fraction > 1 - 1.5 / steps,
    )
    assert run.history["epoch"].tolist() == [1]
    assert run.metrics["best_epoch"] == 1


def test_saved_weights_without_a_finite_perplexity_are_divergence(
    tiny_setting, tiny_corpus, tmp_path, monkeypatch
):
    def infinite(model, ids):
        return torch.full((len(ids) - 1,), math.inf)

    monkeypatch.setattr("ptb.training.train.token_losses", infinite)
    metrics = train(tiny_setting(), tiny_corpus, tmp_path)
    assert (metrics["status"], metrics["best_epoch"]) == ("diverged", None)
    assert "inf" in metrics["reason"] and faults(Run(tmp_path)) is None


@pytest.mark.parametrize("on_step", [None, lambda *step: None])
def test_loss_too_large_for_a_perplexity_is_divergence(
    on_step, tiny_setting, tiny_corpus, tmp_path, monkeypatch
):
    """The loss is some thousands, far from infinite, when its exponential is infinite."""
    monkeypatch.setattr("ptb.training.trainer.learning_rate", lambda *_: 1e5)
    metrics = train(tiny_setting(clip=0.0), tiny_corpus, tmp_path, on_step=on_step)
    assert metrics["status"] == "diverged"
    assert 1e3 < float(metrics["reason"].split()[1]) < math.inf
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
