"""A new cell and a new schedule are one entry in a table each: nothing else has to know of them."""

import pytest
import torch
from conftest import make_corpus, make_setting

from ptb.__main__ import main, parser
from ptb.data import corpora
from ptb.data.corpora import Entry
from ptb.errors import RunError, SettingError
from ptb.evaluation.perplexity import measure
from ptb.models.cells import CELLS, Cell
from ptb.models.layers import Recurrent
from ptb.recipes import recipe
from ptb.report import figures
from ptb.report.model_table import model_table
from ptb.report.one_run import result, setting_table
from ptb.runs.run import Run, load_model
from ptb.runs.table import faults, gather
from ptb.setting import Setting
from ptb.training.optim import SCHEDULES, Schedule, learning_rate
from ptb.training.train import train


def mingru_step(x, h, w_ih, w_hh, b_ih, b_hh):
    """Feng et al. 2024, "Were RNNs all we needed?": gates that do not see the state."""
    z, new = (x @ w_ih.T + b_ih).chunk(2, dim=1)
    return torch.lerp(h, new, torch.sigmoid(z))


@pytest.fixture
def mingru(monkeypatch):
    monkeypatch.setitem(CELLS, "mingru", Cell("minGRU", 2, 0, ("h",), mingru_step))


@pytest.fixture
def halving(monkeypatch):
    entry = Schedule(
        lambda setting, epoch, progress, cuts: 0.5**epoch, lambda setting: "halved each epoch"
    )
    monkeypatch.setitem(SCHEDULES, "halving", entry)


class Stopped(Exception):
    pass


def stop_after(epochs: int):
    def on_epoch(rows):
        if len(rows) == epochs:
            raise Stopped

    return on_epoch


def assert_trains_resumes_and_reports(setting, folder):
    corpus = make_corpus()
    whole = train(setting, corpus, folder / "whole")
    with pytest.raises(Stopped):
        train(setting, corpus, folder / "resumed", on_epoch=stop_after(1))
    assert train(setting, corpus, folder / "resumed") == whole

    run = Run(folder / "whole")
    assert faults(run) is None
    history = run.history
    assert history["valid"].iloc[-1] < history["valid"].iloc[0]
    found = measure(load_model(run, corpus), corpus["valid"])
    assert found["perplexity"] == pytest.approx(whole["valid"]["perplexity"], rel=1e-6)
    (row,) = gather([run]).to_dict("records")
    assert row["valid"] == whole["valid"]["perplexity"]
    title = figures.convergence(setting, history).get_title()
    assert "perplexity" in repr(result(run)) and f"{row['valid']:.2f}" in repr(result(run))
    return title


def test_a_new_cell_is_one_entry(mingru, tmp_path):
    setting = make_setting(cell="mingru", dropout=0.1, epochs=3)
    title = assert_trains_resumes_and_reports(setting, tmp_path)
    assert title.startswith("minGRU, dropout 0.1")
    table = model_table(setting, 7).frame
    assert set(table["agree"]) == {"yes"} and "2·(H·E + H)" in set(table["formula"])
    assert "mingru" in repr(setting_table(setting))


def test_the_formula_of_a_cell_whose_gates_do_not_all_see_the_state(monkeypatch):
    monkeypatch.setitem(CELLS, "half", Cell("half", 2, 1, ("h",), None))
    for biases, state in ((1, "1·H·H"), (2, "1·(H·H + H)")):
        setting = make_setting(cell="half", biases=biases, layers=1)
        table = model_table(setting, 7).frame
        assert set(table["agree"]) == {"yes"} and f"2·(H·E + H) + {state}" in set(table["formula"])


def test_a_new_cell_is_a_choice_and_has_the_default_recipe(mingru):
    assert recipe("mingru", 0.2) == Setting(cell="mingru", dropout=0.2)
    assert parser().parse_args(["train", "--cell", "mingru"]).cell == "mingru"
    with pytest.raises(SettingError, match="'mingur' is none of .*mingru: did you mean 'mingru'"):
        recipe("mingur", 0.2)


def test_a_layer_of_a_new_cell_runs_its_steps(mingru):
    layer = Recurrent("mingru", 3, 4)
    for weights in layer.parameters():
        torch.nn.init.uniform_(weights, -1, 1)
    assert [name for name, _ in layer.named_parameters()] == ["weight_ih", "bias_ih"]
    assert sum(p.numel() for p in layer.parameters()) == CELLS["mingru"].parameter_count(3, 4)
    x, h = torch.randn(5, 2, 3), torch.randn(2, 4)
    y, (last,) = layer(x, (h,))
    for x_t, y_t in zip(x, y, strict=True):
        h = mingru_step(x_t, h, layer.weight_ih, None, layer.bias_ih, None)
        assert torch.equal(y_t, h)
    assert torch.equal(last, h)


def test_a_new_schedule_is_one_entry(halving, tmp_path):
    setting = make_setting(schedule="halving", epochs=3)
    title = assert_trains_resumes_and_reports(setting, tmp_path)
    assert title.endswith("learning rate 5 halved each epoch")
    assert list(Run(tmp_path / "whole").history["lr"]) == [5.0, 2.5, 1.25]
    assert learning_rate(setting, 2, 0.9) == 1.25


def test_a_new_corpus_is_one_entry(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(corpora.CORPORA, "toy", Entry(make_corpus, "a toy language", "toys"))
    monkeypatch.setattr("ptb.runs.run.RUNS", tmp_path)
    line = "train --corpus toy --hidden 4 --embedding 4 --bptt 5 --batch-size 4 --epochs 1"
    assert main(line.split()) == 0
    (folder,) = (tmp_path / "toys").iterdir()  # its runs go to the study that the entry names
    assert Run(folder).setting.corpus == "toy"
    printed = capsys.readouterr().out
    assert f"valid: perplexity {Run(folder).metrics['valid']['perplexity']:.2f}" in printed


def test_a_record_of_a_cell_that_is_no_longer_there_is_one_line(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(CELLS, "mingru", Cell("minGRU", 2, 0, ("h",), mingru_step))
        train(make_setting(cell="mingru", epochs=1), make_corpus(), tmp_path / "run")
    assert "setting.json is damaged (SettingError: cell = 'mingru'" in faults(Run(tmp_path / "run"))
    with pytest.raises(RunError, match="is none of lstm, gru, rnn, transformer"):
        _ = Run(tmp_path / "run").setting
