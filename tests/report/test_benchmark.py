"""report/benchmark.json: machines beside one another, and the tables of them."""

import json

import pytest

from ptb.report import benchmark

ROW = {"cell": "lstm", "device": "cpu", "threads": 1, "precision": "float32", "over_plain": 1.25}
FULL = {f"{name}_tokens_per_second": 1000.0 * n for n, name in enumerate(("plain", "ours"), 1)}
FULL |= {"limit_tokens_per_second": 3000.0, "limit_share": 2 / 3}


def machine(name: str, *rows: dict) -> dict:
    about = {"measured": "2026-11-27", "source": "make bench", "environment": {"commit": None}}
    return {"machine": name, "step": list(rows)} | about


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file of one machine, which the tables are made of."""
    path = tmp_path / "benchmark.json"
    path.write_text(json.dumps(machine("first", ROW) | {"others": []}))
    monkeypatch.setattr(benchmark, "BENCHMARK", path)
    return path


def test_a_new_machine_stands_first_and_the_others_stay(file):
    benchmark.write_benchmark(machine("second", ROW | FULL))
    benchmark.write_benchmark(machine("third", ROW))
    found = json.loads(file.read_text())
    assert [found["machine"], *(m["machine"] for m in found["others"])] == [
        "third", "second", "first",
    ]  # fmt: skip
    assert found["others"][0]["step"] == [ROW | FULL]
    assert not any("others" in other for other in found["others"])


def test_a_machine_measured_again_replaces_its_own(file):
    benchmark.write_benchmark(machine("second", ROW))
    benchmark.write_benchmark(machine("first", ROW | FULL))
    found = json.loads(file.read_text())
    assert found["machine"] == "first" and found["step"] == [ROW | FULL]
    assert [other["machine"] for other in found["others"]] == ["second"]


def test_tables_show_every_machine_and_a_dash_for_what_it_lacks(file):
    gpu = ROW | FULL | {"device": "cuda"}
    rounded = ROW | FULL | {"precision": "bfloat16", "threads": 2}
    share = {name: value for name, value in ROW.items() if name != "over_plain"}
    second = machine("second", gpu, gpu | {"cell": "gru"}, rounded, share | {"limit_share": 0.67})
    benchmark.write_benchmark(second | {"gpu": "a GPU"})
    assert "| a GPU | 2,000 (1.2×) | 2,000 (1.2×) |" in benchmark.speeds()
    assert "| first | – (1.2×) | – |" in benchmark.speeds()
    assert "bfloat16" not in benchmark.speeds()
    lines = benchmark.steps().splitlines()
    assert "| LSTM, second, 2 threads, bfloat16 | 1,000 | 2,000 (1.2×) | 3,000 | 67% |" in lines
    assert "| LSTM, first, 1 thread | – | – (1.2×) | – | – |" in lines
    assert "| LSTM, second, 1 thread | – | – | – | 67% |" in lines
    assert "| first | 2026-11-27 | not noted | make bench |" in benchmark.machines()
