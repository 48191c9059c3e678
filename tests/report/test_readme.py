"""The commands that the README shows do what it says, as far as they are short."""

import json
import os
import re
import shlex

import pytest
from test_notebooks import ONE_THREAD, TINY, command, parameters

from ptb.__main__ import parser
from ptb.paths import RECORDS, ROOT
from ptb.report.publish import with_tables
from ptb.runs.table import find_runs

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.M | re.S)
COMMANDS = [
    line.split("  #")[0].strip()
    for kind, block in BLOCKS
    if kind == "sh"
    for line in block.splitlines()
]
MAKE = sorted({line for line in COMMANDS if line.startswith("make ")})
PAPERMILL = sorted({*re.findall(r"papermill train\.ipynb [^`#\n]*[^`#\s]", README)})
RATES = re.compile(r"-p dropout \S+")
DIFFERENT = {RATES.sub("", line).strip(): line for line in PAPERMILL}  # in more than a rate
MODULES = sorted({line for line in COMMANDS if line.startswith("python -m ptb ")})


@pytest.mark.parametrize("line", MAKE)
def test_make_targets_exist(line):
    assert os.system(f"cd '{ROOT}' && {line} --dry-run > /dev/null 2>&1") == 0


@pytest.mark.parametrize("line", DIFFERENT.values())
def test_papermill_lines_run(line, tmp_path):
    """On the embedded corpus, in a tiny size."""
    small = parameters(corpus="embedded", folder=tmp_path / "run", **TINY | ONE_THREAD)
    words = [str(tmp_path / word) if word.startswith("out") else word for word in shlex.split(line)]
    done = command(*words, *small)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize("line", MODULES)
def test_module_commands_take_their_arguments(line):
    """Parsed; the work itself is too long for a test."""
    assert parser().parse_args(shlex.split(line)[3:]).command


def test_all_kinds_of_commands_are_shown():
    assert {"make demo", "make test"} <= set(MAKE)
    assert len(PAPERMILL) >= 4 and MODULES
    assert "jupyter nbconvert report.ipynb --to pdf" in COMMANDS


def test_the_run_to_evaluate_is_published():
    (folder,) = re.findall(r"papermill evaluate\.ipynb .* -p run \.\./(\S+)", README)
    assert (ROOT / folder / "weights.safetensors").exists()


def test_the_table_of_speeds_is_the_benchmarks():
    steps = json.loads((ROOT / "report" / "benchmark.json").read_text())["step"]
    assert len(steps) >= 4  # more on a GPU
    for row in steps:
        ours = f"{row['ours_tokens_per_second']:,.0f} ({row['over_plain']:.1f}×)"
        cells = [f"{row['plain_tokens_per_second']:,.0f}", ours]
        cells += [f"{row['limit_tokens_per_second']:,.0f}", f"{row['limit_share']:.0%}"]
        assert f"| {' | '.join(cells)} |" in README


def test_tables_are_the_records():
    assert with_tables(README) == README


def test_the_python_lines_run(ptb_folder, capsys):
    """The snippet that loads saved weights prints the recorded perplexity."""
    (snippet,) = (block for kind, block in BLOCKS if kind == "python")
    exec(compile(snippet, "README.md", "exec"), {})
    best = min(find_runs(RECORDS / "dropout"), key=lambda run: run.metrics["valid"]["perplexity"])
    printed = float(capsys.readouterr().out.split()[-1])
    assert printed == pytest.approx(best.metrics["valid"]["perplexity"], rel=1e-4)
