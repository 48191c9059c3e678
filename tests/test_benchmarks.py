"""`make bench`: its rows, and what it writes; the notebook that it starts is as it expects."""

import importlib.util
import json
import math
import sys

import pytest

from ptb.errors import RunError
from ptb.paths import ROOT
from ptb.report import benchmark

FOLDER = ROOT / "benchmarks"


@pytest.fixture
def throughput(monkeypatch):
    """benchmarks/throughput.py as a module, in a tiny size."""
    monkeypatch.syspath_prepend(FOLDER)
    spec = importlib.util.spec_from_file_location("throughput", FOLDER / "throughput.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "throughput", module)
    spec.loader.exec_module(module)
    for where in (module, sys.modules["contestants"]):
        for name, value in {"T": 3, "B": 2, "V": 50}.items():
            monkeypatch.setattr(where, name, value)
    monkeypatch.setattr(module, "SHORT", 0.01)
    yield module
    sys.modules.pop("contestants")


def finite(row: dict) -> bool:
    return all(math.isfinite(value) for value in row.values() if isinstance(value, float))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_comparison_has_the_ratios_of_its_speeds(throughput, cell):
    row = throughput.compare(0.01, cell, 1, "cpu", "float32")
    plain, ours, limit = (row[f"{n}_tokens_per_second"] for n in ("plain", "ours", "limit"))
    assert row["cell"] == cell and finite(row) and limit > ours > 0
    assert row["over_plain"] == pytest.approx(ours / plain)
    assert row["limit_share"] == pytest.approx(ours / limit)


def test_made_up_windows_follow_one_another(throughput):
    (x, y), (following, _) = throughput.batches(2)
    assert x.shape == y.shape == (3, 2)
    assert y[:-1].equal(x[1:]) and y[-1].equal(following[0])


def test_a_damaged_file_of_figures_is_noticed_before_anything_is_measured(
    throughput, monkeypatch, tmp_path
):
    (tmp_path / "benchmark.json").write_text("{")
    monkeypatch.setattr(benchmark, "BENCHMARK", tmp_path / "benchmark.json")
    monkeypatch.setattr(throughput, "plan", lambda quick: pytest.fail("it goes on to measure"))
    with pytest.raises(RunError, match="benchmark.json is damaged"):
        throughput.main()


def test_the_first_figures_make_the_file(throughput, monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark, "BENCHMARK", tmp_path / "benchmark.json")
    monkeypatch.setattr(throughput, "plan", lambda quick: [])
    monkeypatch.setattr(throughput, "write_tables", lambda: None)
    throughput.main()
    assert json.loads((tmp_path / "benchmark.json").read_text())["others"] == []


def test_a_machine_with_a_gpu_keeps_the_figures_of_one_without(monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark, "BENCHMARK", tmp_path / "benchmark.json")
    about = {"measured": "2026-11-29", "source": "make bench", "environment": {"commit": None}}
    for gpu in ({}, {"gpu": "H200"}, {"gpu": "H200"}):
        benchmark.write_benchmark({"machine": "EPYC", **gpu, **about})
    assert [machine.get("gpu") for machine in benchmark.read_machines()] == ["H200", None]
    assert "| EPYC, H200 |" in benchmark.machines() and "| EPYC |" in benchmark.machines()


def test_the_other_rows_are_measured(throughput, monkeypatch):
    monkeypatch.setitem(throughput.PENN_TREEBANK.tokens, "train", 1000)
    text = throughput.long_text(3)
    assert finite(text) and text["steps"] > 1
    assert throughput.evaluation("gru", 1)["tokens_per_second"] > 0
    for row in (throughput.training_memory("gru"), throughput.evaluation_memory("lstm")):
        assert finite(row) and row["peak_mb"] > 1


def test_rows_are_printed_and_only_the_whole_is_written(throughput, monkeypatch, tmp_path, capsys):
    file = tmp_path / "benchmark.json"
    file.write_text(json.dumps({"machine": "another", "step": [], "others": []}))
    rows = [("step", 1, lambda: {"cell": "lstm", "speed": 1.5}), ("start_up", 1, lambda: None)]
    monkeypatch.setattr(throughput, "plan", lambda quick: rows)
    monkeypatch.setattr(throughput, "write_tables", lambda: None)
    monkeypatch.setattr(benchmark, "BENCHMARK", file)
    monkeypatch.setenv("QUICK", "1")
    throughput.main()
    assert "step: cell lstm, speed 1.5" in capsys.readouterr().out
    assert json.loads(file.read_text())["machine"] == "another"
    monkeypatch.delenv("QUICK")
    throughput.main()
    found = json.loads(file.read_text())
    assert found["step"] == [{"cell": "lstm", "speed": 1.5}] and "start_up" not in found
    assert [other["machine"] for other in found["others"]] == ["another"]


def test_a_made_up_text_has_every_type_and_about_so_many_tokens(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    reading = importlib.import_module("reading")
    monkeypatch.setattr(reading, "TYPES", 50)  # <eos> among them
    lines = reading.made_up_text(5000).splitlines()
    assert len({word for line in lines for word in line.split()}) == 49
    assert sum(len(line.split()) + 1 for line in lines) == pytest.approx(5000, rel=0.01)


def test_the_notebook_has_the_one_place_where_its_first_step_is_seen():
    notebook = json.loads((ROOT / "notebooks" / "train.ipynb").read_text())
    sources = ["".join(cell["source"]) for cell in notebook["cells"]]
    assert sum('"on_step": live.step' in source for source in sources) == 1
