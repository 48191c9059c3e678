"""The notebooks' room: what a notebook may call, from one import, and what only they need."""

import os
import re
import time
from dataclasses import fields
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython import get_ipython
from IPython.display import HTML, Markdown, display
from matplotlib.patches import Rectangle
from matplotlib_inline.backend_inline import set_matplotlib_formats

from ptb import figures, findings
from ptb.cells import parameter_count
from ptb.corpus import SPLITS, Corpus, load, windows
from ptb.evaluation import generate, load_model, perplexity, summary, token_losses
from ptb.model import build, parameter_table
from ptb.runs import RECORDS, ROOT, RUNS, Run, find_runs, four_settings, gather
from ptb.setting import FOUR, Setting, SettingError, bar, check_names, recipe
from ptb.training import train

__all__ = [
    "RECORDS", "RUNS", "SPLITS", "Live", "Markdown", "Run", "Setting", "check", "choose_study",
    "draw_windows", "figures", "find_run", "find_runs", "findings", "gather", "generate", "load",
    "load_model", "model_table", "parameter_count", "passage", "perplexity", "recipe", "relative",
    "remeasure", "result", "run_folder", "setting_table", "show", "table", "title_page",
    "token_losses", "train", "use_threads",
]  # fmt: skip

set_matplotlib_formats("png", "pdf")


# ---------------------------------------------------------------- the parameters cell
def check(names: dict, others: tuple[str, ...]) -> Setting:
    """The setting that a notebook's parameters make; names is the notebook's globals().

    others are the parameters that are no choice of the setting; the parameters cell assigns them
    all. An unknown name (papermill adds whatever it is given) or a bad value raises SettingError.
    """
    given = {name: names[name] for name in _assigned(others)}
    check_names(given, others)
    chosen = {name: value for name, value in given.items() if name not in others}
    first = [chosen.pop(name) for name in ("cell", "dropout", "corpus")]
    return recipe(*first, **chosen)


def _assigned(others: tuple[str, ...]) -> list[str]:
    """The names that the parameters cell assigns, and those of papermill's cell behind it.

    Not all globals: when all cells are run again, those are the notebook's own variables too.
    """
    cells = get_ipython().user_ns["In"][:-1]  # by order of execution, but the one that asks
    names = [re.findall(r"^(\w+) *=(?!=)", cell, re.M) for cell in cells]
    whole = [n for n, assigned in enumerate(names) if set(others) <= set(assigned)]
    if not whole:
        raise SettingError(f"no cell run so far assigns {', '.join(others)}: run all cells")
    added = [n for n in range(whole[-1], len(cells)) if cells[n].startswith("# Parameters")]
    return [name for n in (whole[-1], *added) for name in names[n]]


def run_folder(setting: Setting, study: str | None) -> Path:
    """runs/STUDY/RUN; the study is by default that of the setting's corpus."""
    default = {"ptb": "dropout", "embedded": "demo"}.get(setting.corpus, setting.corpus)
    return RUNS / (study or default) / setting.name


def use_threads(threads: int | None) -> None:
    """Has torch compute on that many threads; None leaves it all cores."""
    if threads is None:
        return
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise SettingError(f"threads = {threads!r} must be a whole number of at least 1")
    torch.set_num_threads(threads)


# ---------------------------------------------------------------- tables and figures
class Table:
    """A data frame that shows as a table with a caption, in HTML and in the PDF."""

    def __init__(self, frame: pd.DataFrame, caption: str, label: str):
        self.frame, self.caption, self.label = frame, caption, label

    def _repr_html_(self) -> str:
        styler = self.frame.style.hide(axis="index").format(escape="html")
        # not as the table's <caption>, which is no wider than the table
        return f"<p>{escape(self.caption)}</p>\n{styler.to_html()}"

    def _repr_latex_(self) -> str:
        latex = self.frame.rename(columns=_latex).style.hide(axis="index").format(escape="latex")
        return latex.to_latex(
            hrules=True, caption=_latex(self.caption), label=self.label, position_float="centering"
        )

    def __repr__(self) -> str:
        return f"{self.caption}\n{self.frame.to_string(index=False)}"


def _latex(text: str) -> str:
    for character in "\\&%$#_{}":
        text = text.replace(character, "\\" + character)
    return text


def table(frame: pd.DataFrame, caption: str, label: str) -> Table:
    """frame as a captioned table; other text refers to it by its label."""
    return Table(frame, caption, label)


def show(figure, caption: str, label: str) -> None:
    """Displays a figure (or a plot's axes) with its caption, once."""
    figure = getattr(figure, "figure", figure)
    display(figure, metadata={"caption": caption, "label": label})
    plt.close(figure)


def setting_table(setting: Setting) -> Table:
    """The setting, a row a choice."""
    rows = [{"choice": f.name, "value": str(getattr(setting, f.name))} for f in fields(setting)]
    return table(pd.DataFrame(rows), "The setting of this run.", "tab:setting")


def model_table(setting: Setting, vocabulary: int) -> Table:
    """The model's parameters, tensor by tensor against the formula."""
    rows = parameter_table(build(setting, vocabulary), setting)
    held, expected = (sum(row[key] for row in rows) for key in ("held", "expected"))
    rows.append({"place": "all", "tensors": "", "held": held, "formula": "", "expected": expected})
    frame = pd.DataFrame(rows)
    frame["agree"] = (frame["held"] == frame["expected"]).map({True: "yes", False: "NO"})
    for column in ("held", "expected"):
        frame[column] = [f"{count:,}" for count in frame[column]]
    return table(frame, "The parameters that the model holds, and their formula.", "tab:model")


def title_page(title: str | None, authors: str | None, whose: str, table: pd.DataFrame) -> None:
    """Shows the abstract, and gives the PDF its title, authors and abstract."""
    texts = {"ptb": "Penn Treebank", "embedded": "an invented language"}
    corpus = table.iloc[0]["corpus"]
    names = authors or ("The authors of the repository" if "published" in whose else "")
    abstract = f"{findings.abstract(table)} {whose}"
    paper = {
        "title": title
        or f"Word-level language models: LSTM and GRU on {texts.get(corpus, corpus)}",
        "authors": [{"name": name.strip()} for name in names.split(",") if name.strip()],
        "abstract": abstract,
    }
    display(Markdown(abstract), metadata={"paper": paper})


def relative(path: Path) -> str:
    """A path as seen from the repository's root, where it is inside."""
    path = path.resolve()
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def result(run: Run) -> Table | Markdown:
    """Perplexities of the saved weights and, where the exercise sets one, the bar."""
    metrics, level = run.metrics, bar(run.setting)
    if metrics["best_epoch"] is None:
        return Markdown(f"The run diverged ({metrics['reason']}) before an epoch ended.")
    rows = [
        {
            "split": split,
            "tokens": f"{metrics[split]['tokens']:,}",
            "perplexity": f"{metrics[split]['perplexity']:.2f}",
        }
        for split in SPLITS
    ]
    caption = f"{figures.label(run.setting)}: the weights of epoch {metrics['best_epoch']}, "
    caption += "the best on validation."
    if level:
        reached = metrics["valid"]["perplexity"] < level
        caption += f" The exercise asks for a validation perplexity below {level}: "
        caption += "reached." if reached else "not reached."
    return table(pd.DataFrame(rows), caption, "tab:result")


def passage(text: str) -> Markdown:
    """A model's text as a quotation, its `<unk>` and `$` shown as they are."""
    return Markdown("> " + re.sub(r"([\\`*_<>$#\[\]~^|])", r"\\\1", text))


def choose_study(study: str | None) -> tuple[pd.DataFrame, str]:
    """The four settings' runs that a report shows, and a sentence that says whose they are.

    study is a folder, or the name of one in runs/. By default it is your own in runs/dropout if its
    four runs are done, else the published one.
    """
    folder = RUNS / (study or "dropout")  # a full path stays one
    table = four_settings(gather(find_runs(folder)))
    if study is None and len(table) < len(FOUR):
        folder = RECORDS / "dropout"
        table = four_settings(gather(find_runs(folder)))
    if table.empty:
        raise SettingError(f"no finished run in {folder}: train first, or name another study")
    owner = "the published study" if RECORDS in folder.parents else "your own study"
    return table, f"The runs are {owner}: {len(table)} of {len(FOUR)}, from `{relative(folder)}`."


def find_run(run: str | None) -> Run:
    """The run of that folder; by default the published one that is best on validation."""
    if run is not None:
        found = Run(run)
        if not found.done:
            raise SettingError(
                f"run = {run!r} is no folder of a finished run: it has no metrics.json"
            )
        return found
    table = four_settings(gather(find_runs(RECORDS / "dropout")))
    return table.loc[table["valid"].idxmin(), "run"]


def remeasure(run: Run, model, corpus: Corpus) -> Table:
    """The saved weights' perplexities, measured now, beside the record."""
    rows = []
    for split in SPLITS:
        record, now = run.metrics[split], summary(token_losses(model, corpus[split]))
        equal = abs(now["loss"] - record["loss"]) < 1e-4 and now["tokens"] == record["tokens"]
        numbers = {"recorded": record["perplexity"], "measured": now["perplexity"]}
        rows.append({"split": split, "tokens": f"{now['tokens']:,}"})
        rows[-1] |= {name: f"{value:.3f}" for name, value in numbers.items()}
        rows[-1]["equal"] = "yes" if equal else "NO"
    return table(pd.DataFrame(rows), f"The weights in {relative(run.folder)}.", "tab:measured")


# ---------------------------------------------------------------- how text becomes windows
def draw_windows(text: str, batch_size: int, bptt: int, offset: int):
    """A drawing of how a text becomes rows and windows, as `ptb.corpus.windows` cuts it."""
    words = text.split()
    cut = list(windows(torch.arange(len(words)), batch_size, bptt, offset))
    rows = torch.cat([x for x, _ in cut]).T.tolist()  # (B, L), indices of words
    figure, axes = plt.subplots(figsize=(9, 0.45 * batch_size + 1.2), layout="constrained")
    for row, line in enumerate(rows):
        for step, word in enumerate(line):
            _draw_word(axes, step, -row - 1, words[word], step // bptt)
        axes.text(-0.1, -row - 0.5, f"row {row + 1}", ha="right", va="center", fontsize=9)
    for n, (x, _) in enumerate(cut):
        axes.text(n * bptt + len(x) / 2, 0.25, f"window {n + 1}", ha="center", fontsize=9)
    used = {word for line in rows for word in line}
    rest = ", ".join(f"“{word}”" for n, word in enumerate(words) if n not in used)
    note = f"read by no row this time: {rest}; the state goes from window to window along each row"
    axes.text(0, -batch_size - 0.6, note, fontsize=8, color="dimgrey")
    axes.set(xlim=(-0.8, len(rows[0])), ylim=(-batch_size - 0.8, 0.8))
    axes.axis("off")
    return figure


def _draw_word(axes, left: int, bottom: int, word: str, window: int) -> None:
    colour = plt.get_cmap("Pastel1")(window)
    axes.add_patch(Rectangle((left, bottom), 1, 1, fc=colour, ec="white"))
    axes.text(left + 0.5, bottom + 0.5, word, ha="center", va="center", fontsize=9)


# ---------------------------------------------------------------- progress, live
_BAR = '<progress value="{:.4f}" max="1" style="vertical-align: middle"></progress>'


class Live:
    """Shows a training run as it goes: `train(…, on_epoch=live.epoch, on_step=live.step)`.

    Used in a `with`. Where a person watches in Jupyter, a bar and a figure that is drawn anew after
    each epoch; elsewhere a printed line an epoch, and the figure once, at the end.
    """

    def __init__(self, setting: Setting, floor: dict[str, float]):
        self.setting, self.floor, self.rows = setting, floor, []
        self.watched = "JPY_SESSION_NAME" in os.environ
        self.bar = display(HTML(""), display_id=True) if self.watched else None
        self.figure = display(HTML(""), display_id=True) if self.watched else None
        self.drawn = time.monotonic()

    def step(self, epoch: int, fraction: float, running: float) -> None:
        """The bar, twice a second: epochs finished, part of this one, running perplexity."""
        if self.watched and time.monotonic() - self.drawn > 0.5:
            self.drawn = time.monotonic()
            done = (epoch + fraction) / self.setting.epochs
            text = f"epoch {epoch + 1}/{self.setting.epochs}, running perplexity {running:.1f}"
            self.bar.update(HTML(f"{_BAR.format(done)} {text}"))

    def epoch(self, rows: list[dict]) -> None:
        """The rows of the history so far: new ones are shown."""
        for row in rows[len(self.rows) :]:
            print(findings.epoch_line(self.setting, row), flush=True)
        self.rows = list(rows)
        if self.watched and rows:
            axes = self._draw()
            self.figure.update(axes.figure)
            plt.close(axes.figure)

    def _draw(self):
        return figures.convergence(self.setting, pd.DataFrame(self.rows), self.floor)

    def __enter__(self) -> "Live":
        return self

    def __exit__(self, *error) -> None:
        """The end, of a stopped run too: the bar goes, the figure stays."""
        if self.watched:
            self.bar.update(HTML(""))
        elif self.rows:
            show(self._draw(), f"Convergence of {figures.label(self.setting)}.", "fig:convergence")
