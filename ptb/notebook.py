"""What a notebook calls: its parameters checked, runs found, and what it shows of them."""

import os
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import pandas as pd
import torch
from IPython import get_ipython
from IPython.display import Javascript, Markdown, display
from matplotlib_inline.backend_inline import set_matplotlib_formats
from torch import Tensor

from ptb.data.corpora import recorded_name
from ptb.data.corpora import title as corpus_title
from ptb.data.corpus import EOS, SPLITS, UNK, Corpus
from ptb.errors import SettingError, meant
from ptb.evaluation.analysis import neighbours, surprise
from ptb.evaluation.generation import encode, generate
from ptb.evaluation.perplexity import measure, sliding_losses, summary
from ptb.models.cells import CELLS
from ptb.parameters import check_parameters
from ptb.paths import RECORDS, RUNS, expanded, from_here, relative
from ptb.recipes import FOUR, recipe
from ptb.report.architecture_runs import best_of_each, experiments, largest
from ptb.report.display import Surprises, Table, as_it_is, passage, table, watched
from ptb.runs.files import WEIGHTS
from ptb.runs.run import Run
from ptb.runs.table import (
    check_measured,
    faults,
    find_runs,
    four_settings,
    gather,
    left_out,
)
from ptb.setting import FIELDS, Setting, check_number, check_text
from ptb.studies.architectures import FULL, LSTM

set_matplotlib_formats("png", "pdf")


def _bring_into_view(result) -> None:
    """Scrolls to a cell that failed: Run All leaves the view at the last cell, far below."""
    if result.error_in_exec:
        display(Javascript("setTimeout(() => element.scrollIntoView({block: 'center'}), 500)"))


if watched() and (shell := get_ipython()):
    shell.events.register("post_run_cell", _bring_into_view)


# ---------------------------------------------------------------- the parameters cell
def check(names: dict, others: tuple[str, ...]) -> Setting:
    """The setting that a notebook's parameters make, for a cell that calls it `setting`.

    names is the notebook's globals(), others are the parameters that are no choice of the setting.
    An unknown name or a bad value raises SettingError, and no earlier `setting` is left then.
    """
    check_parameters(names, (*FIELDS, *others), makes=["setting"])
    chosen = {name: names[name] for name in FIELDS if name in names}
    first = [chosen.pop(name, None) for name in ("cell", "dropout", "corpus")]
    setting = recipe(*first, **chosen)
    return replace(setting, corpus=recorded_name(setting.corpus))


def use_threads(threads: int | None) -> None:
    """Has torch compute on that many threads; None leaves it all cores."""
    if threads is not None:
        torch.set_num_threads(check_number("threads", int, threads))


# ---------------------------------------------------------------- the runs of a report
def title_page(
    title: str | None,
    authors: str | None,
    abstract: str,
    table: pd.DataFrame,
    about: str = "Word-level language models: LSTM and GRU",
) -> None:
    """Shows the abstract, in Markdown, and gives the PDF its title, authors and abstract.

    By default the title says what the report is about and names the corpus of the table's runs.
    """
    title = None if title is None else check_text("title", title)
    authors = None if authors is None else check_text("authors", authors)
    names = authors or ("The authors of the repository" if is_published(table) else "")
    paper = {
        "title": title or f"{about} on {corpus_title(table.iloc[0]['corpus'])}",
        "authors": [{"name": name.strip()} for name in names.split(",") if name.strip()],
        "abstract": abstract,
    }
    display(Markdown(abstract), metadata={"paper": paper})


def choose_study(study: str | None) -> tuple[pd.DataFrame, str]:
    """The four settings' runs that a report shows, and a sentence that says whose they are.

    study is a folder, or the name of one in runs/. By default it is your own in runs/dropout if its
    four runs are done, else the published one.
    """
    folder = _study_folder("dropout" if study is None else study)
    table = four_settings(gather(find_runs(folder)))
    if study is None and len(table) < len(FOUR):
        folder = RECORDS / "dropout"
        table = four_settings(gather(find_runs(folder)))
    if table.empty:
        # without faults, but diverged or of none of the four settings
        others = [run for run in find_runs(folder) if not faults(run)]
        lines = [f"{run.folder.name}: {run.metrics['status']}" for run in others]
        known = {"dropout", "demo", *(path.name for path in RUNS.glob("*/"))} - {folder.name}
        reason = "; ".join([*left_out(folder), *lines])
        reason = reason or f"train first; {meant(folder.name, sorted(known))}"
        raise SettingError(f"no finished run of the four settings in {folder}: {reason}")
    owner = "the published study" if is_published(table) else "your own study"
    whose = f"The runs are {owner}: {len(table)} of {len(FOUR)}, from `{relative(folder)}`."
    return table, whose + _lacking(table, folder)


def _study_folder(study: str) -> Path:
    """The folder of a study by its name in runs/, or a folder, as seen from the current one."""
    given = expanded("study", check_text("study", study))
    named = RUNS / given
    return (given if os.path.isdir(given) and not os.path.isdir(named) else named).resolve()


def is_published(table: pd.DataFrame) -> bool:
    """Whether the runs are the repository's own records; else the report is somebody else's."""
    return RECORDS.resolve() in table.iloc[0]["run"].folder.resolve().parents


def _lacking(table: pd.DataFrame, folder: Path) -> str:
    """What a report says of the settings that are missing and of runs that it leaves out."""
    there = set(zip(table["cell"], table["dropout"] > 0, strict=True))
    missing = [
        f"{CELLS[cell].title} {'with' if dropout else 'without'} dropout"
        for cell, dropout in FOUR
        if (cell, dropout > 0) not in there
    ]
    said = f" Missing: {', '.join(missing)}." if missing else ""
    reasons = left_out(folder)
    return said + (f" Left out: {as_it_is('; '.join(reasons))}." if reasons else "")


def choose_experiments(study: str | None) -> tuple[pd.DataFrame, str]:
    """The second exercise's runs that its report shows, and a sentence that says whose they are.

    study is a folder, or the name of one in runs/. By default it is your own in runs/architectures
    if no experiment is missing there, else the published one.
    """
    folder = _study_folder("architectures" if study is None else study)
    table = experiments(folder)
    if study is None and _not_run(table):
        published = experiments(RECORDS / "architectures")
        if len(published):
            folder, table = RECORDS / "architectures", published
    shown = set() if table.empty else {run.folder.name for run in table["run"]}
    reasons = [line for line in left_out(folder) if line.partition(":")[0] not in shown]
    if table.empty or best_of_each(table).empty:
        reason = "; ".join(reasons) or "train first: make architectures"
        raise SettingError(f"no finished run of the second exercise in {folder}: {reason}")
    owner = "the published study" if is_published(table) else "your own study"
    whose = f"The runs are {owner}, from `{relative(folder)}`."
    if missing := _not_run(largest(table)):
        scale = largest(table)["scale"].iloc[0]
        size = "full size" if scale == 1 else f"scale {scale:g}"
        aside = " (which is none of the fifteen)" if missing[-1] == LSTM else ""
        whose += f" Not trained at {size}: {', '.join(missing)}{aside}."
    others = [run for run in find_runs(folder) if run.folder.name not in shown and not faults(run)]
    if again := [run.folder.name for run in others if run.setting.experiment in FULL]:
        whose += f" Not shown, as another run of the same experiment is: {', '.join(again)}."
    return table, whose + (f" Left out: {as_it_is('; '.join(reasons))}." if reasons else "")


def _not_run(table: pd.DataFrame) -> list[str]:
    """The experiments that no run is of."""
    return [name for name in FULL if table.empty or name not in set(table["experiment"])]


def find_run(run: str | None) -> Run:
    """The finished run of that folder; by default the published one that is best on validation.

    Raises SettingError for a folder without one, RunError for faulty records.
    """
    if run is None:
        table = _published_four()
        return table.loc[table["valid"].idxmin(), "run"]
    run = check_text("run", run)
    found = Run(expanded("run", run))
    if not found.done:
        said = f"run = {run!r} is not the folder of a finished run, it has no metrics.json"
        raise SettingError(said + _meant_run(run))
    check_measured(found)
    return found


def _published_four() -> pd.DataFrame:
    table = gather(find_runs(RECORDS / "dropout"))
    if table.empty:
        raise SettingError(f"no run is published in {RECORDS}: name a finished run's folder")
    return four_settings(table)


def _meant_run(run: str) -> str:
    runs = [
        run for root in (RECORDS, RUNS) for study in root.glob("*/") for run in find_runs(study)
    ]
    # of most published runs the weights are left out
    folders = {run.folder.name: run.folder for run in runs if (run.folder / WEIGHTS).exists()}
    close = get_close_matches(Path(run).name, folders, n=1)
    return f"; did you mean {from_here(folders[close[0]])!r}?" if close else ""


def remeasure(run: Run, model, corpus: Corpus) -> Table:
    """The saved weights' perplexities, measured now, beside the record."""
    rows = [_compared(split, run.metrics[split], measure(model, corpus[split])) for split in SPLITS]
    for split, record in run.metrics.get("sliding", {}).items():
        now = summary(sliding_losses(model, corpus[split]))
        rows.append(_compared(f"{split}, sliding", record, now))
    return table(pd.DataFrame(rows), f"The weights in {relative(run.folder)}.", "tab:measured")


def _compared(what: str, record: dict, now: dict) -> dict:
    equal = abs(now["loss"] - record["loss"]) < 1e-4 and now["tokens"] == record["tokens"]
    numbers = {"recorded": record["perplexity"], "measured": now["perplexity"]}
    row = {"split": what, "tokens": f"{now['tokens']:,}"}
    row |= {name: f"{value:.3f}" for name, value in numbers.items()}
    return row | {"equal": "yes" if equal else "NO"}


# ---------------------------------------------------------------- what a model makes of words
OWN_TEXT = {  # Penn Treebank's is not free
    "passage": "the company said its profit rose in the third quarter <eos> "
    "a small dog walked into the bank and asked for a loan <eos> "
    "the bank said it would n't lend money to a zebra <eos>",
    "sentence": "the company said its profit rose in the third quarter <eos> "
    "but sales fell and the chairman resigned <eos>",
    "prompt": "the company",
    "words": "company monday million he",
}


def default_text(corpus: Corpus) -> dict[str, str]:
    """Passage, prompt and words for a corpus: of its test split, or our own for Penn Treebank."""
    if corpus.name == "ptb":
        return OWN_TEXT
    ids, end = corpus["test"].tolist(), corpus.index[EOS]
    start = ids.index(end) + 1 if end in ids[:-1] else 0  # the second sentence, if there is one
    text = corpus.text(ids[start : start + 60])
    prompt = " ".join(text.split()[:3])
    words = corpus.words[20:24] or [w for w in corpus.words if w not in (EOS, UNK)][-4:]
    return {"passage": text, "prompt": prompt, "words": " ".join(words)}


def read_text(corpus: Corpus, name: str, text: str | None) -> list[str]:
    """The words of a parameter's text, by default the corpus's.

    Raises SettingError for an unknown word where none can be: among words, or in a corpus without
    `<unk>`.
    """
    text = default_text(corpus)[name] if text is None else check_text(name, text)
    encode(corpus, text, None if name == "words" else UNK)
    return text.split()


def surprises(model, corpus: Corpus, words: list[str]) -> Surprises:
    """A text, each word with its loss in bits given the words before it."""
    ids = encode(corpus, " ".join(words))
    return Surprises([corpus.words[i] for i in ids], surprise(model, corpus, ids), words)


def continued(model, corpus: Corpus, words: list[str], length: int, temperature: float) -> Markdown:
    """The text, as the start of a sentence, and what the model writes after it."""
    prompt = torch.tensor([corpus.index[EOS], *encode(corpus, " ".join(words))])
    ids = generate(model, prompt, length, temperature, torch.Generator().manual_seed(1))
    given = [word if word in corpus.index else f"{word} ({UNK})" for word in words]
    return passage(" ".join([*given, corpus.text(ids)]))


def neighbour_table(model, corpus: Corpus, words: list[str], count: int = 5) -> Table:
    """The words nearest by cosine to each of the words, in the model's two matrices of words."""
    rows = []
    matrices = {"embedding": model.embedding.weight, "output matrix": model.output.weight}
    for word in words:
        near = {
            name: neighbours(weight, corpus.index[word], count) for name, weight in matrices.items()
        }
        for rank in range(len(near["embedding"])):
            row = {name: found[rank] for name, found in near.items()}
            cells = {name: f"{corpus.words[i]} {cosine:.2f}" for name, (i, cosine) in row.items()}
            rows.append({"word": "" if rank else word} | cells)
    caption = "The words nearest to some words, with the cosine of their vectors."
    return table(pd.DataFrame(rows), caption, "tab:neighbours")


# ---------------------------------------------------------------- looking inside
def find_recurrent_runs(run: str | None) -> list[Run]:
    """The finished run of that folder; by default the best published LSTM and the best GRU.

    Raises SettingError for a Transformer's, which has no gates, and what `find_run` does.
    """
    if run is None:
        table = _published_four()
        best = table.loc[table.groupby("cell")["valid"].idxmin()]
        return best.sort_values("cell", ascending=False)["run"].tolist()
    found = find_run(run)
    if found.setting.cell == "transformer":
        raise SettingError(f"run = {run!r} is a transformer's, which has no gates: use an lstm's")
    return [found]


def read_sentence(model, corpus: Corpus, sentence: str | None) -> Tensor:
    """The ids of `<eos>` and a sentence after it; without one, our own, or one that the model says.

    A word that the vocabulary lacks becomes `<unk>`; raises SettingError where there is none.
    """
    start = torch.tensor([corpus.index[EOS]])
    if sentence is None and corpus.name != "ptb":
        said = generate(model, start, 12, 0.7, torch.Generator().manual_seed(1))
    else:
        text = OWN_TEXT["sentence"] if sentence is None else check_text("sentence", sentence)
        said = encode(corpus, text)
    return torch.cat((start, torch.tensor(said)))
