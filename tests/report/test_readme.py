"""README.md and docs/: their commands, their links, their tables, the places that they name."""

import ast
import json
import re
import shlex
import subprocess
from pathlib import Path

import nbformat
import pytest
from test_notebooks import NOTEBOOKS, ONE_THREAD, TINY, command, parameters, printed

from ptb.__main__ import chosen_setting, chosen_study, parser
from ptb.data.corpora import CORPORA, load
from ptb.paths import RECORDS, ROOT
from ptb.recipes import recipe
from ptb.report.architecture_runs import ended, experiments, largest
from ptb.report.publish import PAGE_TABLES, with_tables
from ptb.report.tables import quick_seeds, recorded
from ptb.runs.run import Run
from ptb.runs.table import find_runs
from ptb.setting import FIELDS
from ptb.studies.architectures import FIFTEEN
from ptb.studies.named import STUDIES

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "data" / "README.md"]
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES}
README = TEXTS["README.md"]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
BLOCKS = [block for text in TEXTS.values() for block in FENCED.findall(text)]
LINES = {
    line.split("  #")[0].strip()
    for kind, block in BLOCKS
    if kind == "sh"
    for line in block.splitlines()
    if not line.startswith("cd ")
}
PROGRAMS = r"(?:make|papermill|nbconvert|python -m ptb) "
INLINE = {code for text in TEXTS.values() for code in re.findall(rf"`({PROGRAMS}[^`\n]+)`", text)}
COMMANDS = sorted(LINES | INLINE)
MAKE = [line for line in COMMANDS if line.startswith("make ")]
PTB = [line for line in COMMANDS if re.match(r"(\.venv/bin/)?python -m ptb ", line)]
PAPERMILL = [line for line in COMMANDS if line.startswith("papermill ")]
TRAIN = [line for line in PAPERMILL if line.startswith("papermill train.ipynb ")]
NBCONVERT = [line for line in COMMANDS if line.startswith("nbconvert ")]
SET_UP = [  # each runs whenever somebody sets the project up and tests it, the last in a browser
    "python3 -m venv .venv",
    ".venv/bin/python -m pip install --requirement requirements.txt",
    ".venv/bin/python -m pytest -q",
    ".venv/bin/jupyter lab",
]


def given(line: str) -> dict[str, str]:
    """The parameters that a papermill line gives."""
    words = shlex.split(line)
    places = [i for i, word in enumerate(words) if word == "-p"]
    return {words[i + 1]: words[i + 2] for i in places}


# A line for each combination of words (cell, tracker) is executed, all values are checked. For a
# corpus of one's own see test_papermill_on_own_texts.
BY_WORDS = {
    frozenset(name for name, value in given(line).items() if not value[0].isdigit()): line
    for line in TRAIN
    if "corpus" not in given(line)
}


# ---------------------------------------------------------------- commands
def test_every_command_is_of_a_kind_that_is_tested_here():
    assert set(COMMANDS) == {*MAKE, *PTB, *PAPERMILL, *NBCONVERT, *SET_UP}
    assert {"make demo", "make test", "nbconvert report.ipynb --to pdf"} <= set(COMMANDS)
    assert len(TRAIN) >= 8 and len(PTB) >= 10


@pytest.mark.parametrize("line", MAKE)
def test_make_targets_exist_and_pass_their_options_on(line):
    words = [*shlex.split(line), "--dry-run"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    given = dict(word.split("=") for word in words if re.match("[A-Z]+=", word))
    given.pop("UV", None)
    for study in re.findall(r"-m ptb (study .*)", done.stdout):
        options = parser().parse_args(shlex.split(study))
        assert options.study.isupper() or options.action != "run" or chosen_study(options)
        if options.action == "run":
            for name, value in given.items():
                found = getattr(options, name.lower())
                assert value == (" ".join(found) if name == "ONLY" else f"{found}")


@pytest.mark.parametrize("line", PTB)
def test_module_commands_take_their_arguments(line):
    """Parsed and checked; the work itself is too long for a test."""
    options = parser().parse_args(shlex.split(line)[3:])
    name = options.command.__name__
    if name in ("train", "trial"):
        chosen_setting(options)
    elif name == "study":
        assert options.study.isupper() or chosen_study(options)  # STUDY and NAME are placeholders
    elif name == "adapt":
        assert options.study in STUDIES
    elif name in ("score", "sample"):
        assert (ROOT / options.run / "weights.safetensors").exists()


@pytest.mark.parametrize("line", BY_WORDS.values())
def test_papermill_lines_train(line, tmp_path):
    """On the embedded corpus, in a tiny size."""
    if tracker := given(line).get("tracker"):
        pytest.importorskip(tracker)
    size = TINY | ({"layers": 1, "feedforward": 8} if "transformer" in line else {})
    small = parameters(corpus="embedded", folder=tmp_path / "run", **size | ONE_THREAD)
    program, notebook, out, *words = shlex.split(line)
    done = command(program, notebook, tmp_path / out, *words, *small)
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "run")
    assert run.metrics["status"] == "finished" and run.setting.cell == given(line)["cell"]
    assert f"{run.metrics['test']['perplexity']:.2f}" in printed(tmp_path / out)


@pytest.mark.parametrize("line", TRAIN)
def test_papermill_lines_make_a_setting(line):
    chosen = {name: value for name, value in given(line).items() if name in FIELDS}
    numbers = {name: float(v) if re.fullmatch(r"[\d.e-]+", v) else v for name, v in chosen.items()}
    if numbers.get("corpus") not in (None, *CORPORA):
        del numbers["corpus"]  # a folder of the reader's
    assert recipe(**{"cell": "lstm", "dropout": 0.0} | numbers)


@pytest.mark.parametrize("line", PAPERMILL)
def test_papermill_lines_give_parameters_of_the_notebook(line):
    cells = nbformat.read(NOTEBOOKS / shlex.split(line)[1], 4).cells
    (source,) = (c.source for c in cells if "parameters" in c.metadata.get("tags", ()))
    known = {node.targets[0].id for node in ast.parse(source).body}
    assert given(line).keys() <= known


@pytest.mark.parametrize("line", NBCONVERT)
def test_nbconvert_lines_name_a_notebook_and_a_format(line):
    _, notebook, option, form = shlex.split(line)
    assert notebook == "out.ipynb" or (NOTEBOOKS / notebook).exists()
    assert option == "--to" and form in ("pdf", "latex", "html")


def test_the_table_of_commands_trains_what_is_published():
    """By the recipe and what the line adds, to the run's very name."""
    table = README.split("<!-- commands")[1].split("<!-- end")[0]
    names = set()
    for line in re.findall(r"`(papermill [^`]+)`", table):
        values = {"cell": given(line)["cell"]}
        values |= {n: float(v) for n, v in given(line).items() if n != "cell"}
        names.add(recipe(**values).name)
    published = [find_runs(RECORDS / study) for study in ("dropout", "long", "half")]
    assert names == {run.folder.name for runs in published for run in runs}


def test_the_run_to_evaluate_is_published():
    (folder,) = re.findall(r"papermill evaluate\.ipynb .* -p run \.\./(\S+)", README)
    assert (ROOT / folder / "weights.safetensors").exists()


def test_the_python_lines_run(ptb_folder, capsys):
    """The snippet that loads saved weights prints the recorded perplexity."""
    (snippet,) = (block for kind, block in BLOCKS if kind == "python")
    exec(compile(snippet, "docs", "exec"), {})
    best = min(find_runs(RECORDS / "dropout"), key=lambda run: run.metrics["valid"]["perplexity"])
    printed = float(capsys.readouterr().out.split()[-1])
    assert printed == pytest.approx(best.metrics["valid"]["perplexity"], rel=1e-4)


# ---------------------------------------------------------------- tables and numbers
@pytest.mark.parametrize("name", PAGE_TABLES)
def test_each_table_is_the_records_and_stands_once(name):
    begin, end = f"<!-- {name}: written by make publish -->", f"<!-- end of {name} -->"
    (page,) = (text for text in TEXTS.values() if begin in text)
    assert page.count(begin) == page.count(end) == 1
    assert with_tables(page) == page


def test_the_perplexities_to_expect_are_the_records():
    settings = {}
    for run in find_runs(RECORDS / "dropout"):
        found = run.metrics["valid"]["perplexity"]
        settings[run.setting.cell, run.setting.dropout > 0] = f"{found:.0f}"
    four = [settings[cell, p] for p in (False, True) for cell in ("lstm", "gru")]
    said = "of {} (LSTM) and {} (GRU) without dropout, {} and {} with it".format(*four)
    assert said in README


def test_the_first_command_of_train_reaches_what_the_notebook_says():
    first = nbformat.read(NOTEBOOKS / "train.ipynb", 4).cells[0].source
    (line,) = re.findall(r"^papermill train\.ipynb .*", first, re.M)
    chosen = {"cell": given(line)["cell"], "dropout": float(given(line)["dropout"])}
    (run,) = (r for r in find_runs(RECORDS / "dropout") if r.setting == recipe(**chosen))
    valid, test = (run.metrics[split]["perplexity"] for split in ("valid", "test"))
    first = " ".join(first.split())
    assert f"perplexity of {valid:.1f} on validation and {test:.1f} on test" in first
    assert f"{run.history['seconds'].iloc[-1] / 60:.0f} minutes on one core" in first


def test_what_dropout_of_one_half_brings_is_the_records():
    best = {
        (study, run.setting.cell): run.metrics["valid"]["perplexity"]
        for study in ("dropout", "half")
        for run in find_runs(RECORDS / study)
        if run.setting.dropout
    }
    gain, cost = (best["dropout", cell] - best["half", cell] for cell in ("lstm", "gru"))
    assert f"gains the LSTM {gain:.1f} on validation and costs the GRU {-cost:.1f}" in README


def test_the_n_gram_model_is_the_baselines():
    models = json.loads((ROOT / "report" / "baselines.json").read_text())["models"]
    (found,) = (m for m in models if m["model"] == "5-gram, modified Kneser-Ney")
    both = " / ".join(f"{found[split]['perplexity']:.1f}" for split in ("valid", "test"))
    assert f"a 5-gram Kneser–Ney model has {both}" in README


def test_how_far_another_seed_is_and_how_many_settings_ended_are_the_records():
    seeds = quick_seeds().groupby(["cell", "dropout"])["test"]
    apart = max(max(abs(test / test.iloc[0] - 1)) for _, test in seeds)
    assert f"the quick recipes' test figures vary by up to {apart:.1%}" in README
    quick = recorded("dropout").query("dropout == 0")
    alone = (quick["minutes"] / quick["epochs"]).mean() * 8  # as many as the long ones have
    assert f"(34 and 40: alone about {alone:.0f})" in " ".join(README.split())
    plain = seeds.get_group(("lstm", 0))
    assert plain.iloc[0] == plain.min()
    said = f"the LSTM's {plain.min():.1f} is the best of its five (mean {plain.mean():.1f})"
    assert said in " ".join(README.split())
    runs = largest(experiments(RECORDS / "architectures"))
    fifteen = runs[runs["experiment"].isin(FIFTEEN)]
    done = len(ended(fifteen))
    said = f"{done} of 15 settings trained to the end, {len(fifteen) - done} for some epochs"
    assert said in README


def test_the_floor_of_the_demo_is_its_corpus_own():
    said = f"own perplexity is {load('embedded').floor['valid']:.1f} on validation"
    assert said in " ".join(README.split())


def test_the_rows_of_adapted_and_averaged_models_are_six():
    adapted = json.loads((RECORDS / "beyond" / "adaptation.json").read_text())
    assert len(adapted) == 6 and "The last six rows" in TEXTS["docs/beyond.md"]


def test_what_goes_beyond_is_the_best_finalist():
    runs = [run.metrics for run in find_runs(RECORDS / "beyond")]
    best = min(runs, key=lambda metrics: metrics["valid"]["perplexity"])
    both = [f"{best[split]['perplexity']:.1f}" for split in ("valid", "test")]
    assert f"reaches {' / '.join(both)}:" in " ".join(README.split())


# ---------------------------------------------------------------- size, links, places
def test_the_readme_is_short():
    assert len(README.encode()) < 9000


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        if re.match(r"https?:", target):
            continue
        file, _, heading = target.partition("#")
        path = (ROOT / page).parent / file
        assert path.exists(), f"{page}: {target}"
        if heading:
            titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
            assert heading in {title.lower().replace(" ", "-") for title in titles}


def defined(path: Path) -> set[str]:
    """The names that a module defines, and its classes' methods as Class.method."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
            methods = [n for n in getattr(node, "body", []) if isinstance(n, ast.FunctionDef)]
            names |= {f"{node.name}.{method.name}" for method in methods}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


PLACES = sorted({p for t in TEXTS.values() for p in re.findall(r"ptb/[\w/]+\.py:[\w.]+\w", t)})


@pytest.mark.parametrize("place", PLACES)
def test_places_in_the_code_are_there(place):
    file, name = place.split(":")
    assert name in defined(ROOT / file)


def test_every_study_is_described():
    assert [name for name in STUDIES if f"`{name}`" not in TEXTS["docs/studies.md"]] == []


def test_the_map_draws_every_module():
    page = TEXTS["docs/architecture.md"]
    modules = [path.stem for path in (ROOT / "ptb").glob("*/[!_]*.py")]
    drawing = page.split("```")[1]
    folders = drawing[drawing.index("  data/") : drawing.index("  notebook.py")].splitlines()
    column = folders[0].index("corpus,")  # where the names begin, in each line
    drawn = re.findall(r"\w+", " ".join(line[column:] for line in folders))
    assert [name for name in modules if name not in drawn] == []
    assert len(PLACES) > 25
