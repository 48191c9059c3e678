"""Tables of the first report and of the README, each a frame of text, from the records."""

import pandas as pd

from ptb.data.corpora import title
from ptb.data.corpus import HELD_OUT, SPLITS
from ptb.models.cells import CELLS
from ptb.paths import RECORDS, relative
from ptb.report.claim import number, signed
from ptb.report.contrast import Contrast
from ptb.report.display import as_it_is
from ptb.report.figures import label, schedule
from ptb.report.text import choice
from ptb.runs.files import parse_json, read_file
from ptb.runs.run import Run
from ptb.runs.table import diverged, find_runs, four_settings, gather
from ptb.setting import EXPERIMENT_ONLY, FIELDS, TRANSFORMER_ONLY, Setting, target_of
from ptb.studies import ablation
from ptb.studies.baselines import BASELINES
from ptb.studies.factors import BASE, factors

SHOWN = ("cell", "dropout", "corpus", "seed", "lr", "schedule", "optimiser", "hold", "decay")
TRIAL_COLUMNS = ("cell", "dropout", "lr", "weight_decay", "epochs")


def recorded(study: str) -> pd.DataFrame:
    """A published study's runs of the exercise's four settings; empty where there are none."""
    return four_settings(gather(find_runs(RECORDS / study)))


def nearest(setting: Setting) -> Run | None:
    """The published run of that cell, with or without dropout, of the nearest rate and epochs.

    None on other corpora than Penn Treebank, and for cells that no published run is of.
    """
    runs = [run for study in ("dropout", "long") for run in recorded(study).get("run", [])]
    same = [
        run
        for run in runs
        if run.setting.cell == setting.cell
        and run.setting.corpus == setting.corpus
        and (run.setting.dropout > 0) == (setting.dropout > 0)
    ]

    def distance(run: Run) -> tuple[float, int]:
        rate = abs(run.setting.dropout - setting.dropout)
        return rate, abs(run.setting.epochs - setting.epochs)

    return min(same, key=distance, default=None)


def corpus_size(table: pd.DataFrame) -> str:
    """The corpus of the runs in numbers, as one sentence."""
    metrics, name = table.iloc[0]["run"].metrics, as_it_is(title(table.iloc[0]["corpus"]))
    tokens = " / ".join(f"{metrics[split]['tokens'] + 1:,}" for split in SPLITS)
    return (
        f"The corpus is {name}: {tokens} tokens in its training, validation and test split, "
        f"{metrics['types']:,} types, one `<eos>` at the end of each line."
    )


def perplexities(table: pd.DataFrame) -> pd.DataFrame:
    """The exercise's table: perplexity of each split with the weights chosen on validation.

    "start": train on the part of the training split that the curves have; "nats": the test loss;
    "gap": valid over train.
    """
    rows = []
    for row in table.to_dict("records"):
        run, target = row["run"], target_of(row["run"].setting)
        reached = "yes" if target and row["valid"] < target else "no"
        best = int(row["best_epoch"])  # a float where another run has none
        start = run.history["train"][best - 1]
        rows.append(
            {
                "setting": label(run.setting),
                "train": f"{row['train']:.2f}",
                "start": f"{start:.2f}",
                "valid": f"{row['valid']:.2f}",
                "test": f"{row['test']:.2f}",
                "nats": f"{run.metrics['test']['loss']:.3f}",
                "gap": f"{row['valid'] / row['train']:.2f}",
                "target": f"{target}: {reached}" if target else "–",
                "best epoch": f"{best} of {run.setting.epochs}",
                "minutes": minutes(row["minutes"]),
            }
        )
    return pd.DataFrame(rows)


def minutes(value: float) -> str:
    """Minutes as a table has them: whole ones from ten on."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def ngrams() -> pd.DataFrame:
    """What n-gram models reach on Penn Treebank's validation and test text."""
    models = read_file(BASELINES, parse_json, relative(BASELINES))["models"]
    return pd.DataFrame(
        {
            "model": ": ".join(filter(None, (row["model"], row["chosen"]))),
            **{split: f"{row[split]['perplexity']:.2f}" for split in HELD_OUT},
            "nats": f"{row['test']['loss']:.3f}",
        }
        for row in models
    )


def recipes(table: pd.DataFrame) -> pd.DataFrame:
    """Each run's recipe, as far as the runs differ (`common` has the rest), and its minutes."""
    rows = []
    for row in table.to_dict("records"):
        setting = row["run"].setting
        differing = {name: choice(getattr(setting, name)) for name in _differing(table)}
        rows.append({"setting": label(setting), "schedule": schedule(setting)} | differing)
        rows[-1]["minutes"] = minutes(row["minutes"])
    return pd.DataFrame(rows)


def _differing(table: pd.DataFrame) -> list[str]:
    return [name for name in FIELDS if name not in SHOWN and table[name].nunique() > 1]


def common(table: pd.DataFrame) -> str:
    """The choices that all runs share, in one line; what is off (0, no) is left out."""
    setting = table.iloc[0]["run"].setting
    known = (*SHOWN, *_differing(table), *EXPERIMENT_ONLY, *TRANSFORMER_ONLY)
    shared = {name: getattr(setting, name) for name in FIELDS if name not in known}
    words = {n: "yes" if value is True else choice(value) for n, value in shared.items() if value}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in words.items())


def quick_seeds() -> pd.DataFrame:
    """The published runs of the quick recipes, a row per seed, LSTMs first."""
    runs = gather(find_runs(RECORDS / "dropout") + find_runs(RECORDS / "seeds"))
    return runs.sort_values(["cell", "dropout", "seed"], ascending=[False, True, True])


def seeds() -> pd.DataFrame:
    """Each quick recipe with several seeds: mean ± standard deviation, and each, in their order."""
    rows = []
    for _, group in quick_seeds().groupby([name for name in FIELDS if name != "seed"], sort=False):
        if len(group) > 1:
            row = {"setting": label(group.iloc[0]["run"].setting)}
            for split in HELD_OUT:
                row[split] = f"{group[split].mean():.2f} ± {group[split].std():.2f}"
                row[f"{split}, each"] = ", ".join(map("{:.2f}".format, group[split]))
            rows.append(row)
    return pd.DataFrame(rows)


def rounded() -> pd.DataFrame:
    """The quick recipes with products in bfloat16, beside the same and other seeds in float32."""
    runs = gather(find_runs(RECORDS / "bfloat16"))
    if runs.empty:
        return runs
    exact, rows = quick_seeds(), []
    for row in runs.sort_values(["cell", "dropout"], ascending=[False, True]).to_dict("records"):
        seeds = exact[(exact["cell"] == row["cell"]) & (exact["dropout"] == row["dropout"])]
        (same,) = seeds[seeds["seed"] == row["seed"]].to_dict("records")
        rows.append({"setting": label(row["run"].setting)})
        for precision, found in (("bfloat16", row), ("float32", same)):
            rows[-1][f"{precision}: valid / test"] = f"{found['valid']:.2f} / {found['test']:.2f}"
        least, most = seeds["valid"].min(), seeds["valid"].max()
        rows[-1]["float32 over seeds: valid"] = f"{least:.2f} to {most:.2f} ({len(seeds)} seeds)"
    return pd.DataFrame(rows)


def one_factor() -> pd.DataFrame:
    """The published runs that change one choice of a quick recipe, and those recipes' own runs.

    "beside" is the Contrast with the recipe's own run, None for that run itself and for one that
    diverged; "row" that of `gather`.
    """
    runs = [run for study in ("dropout", "factors") for run in find_runs(RECORDS / study)]
    there = {row["run"].setting: row for _, row in gather(runs).iterrows()}
    names = {setting: f"{CELLS[cell].title}, quick recipe" for cell, setting in BASE.items()}
    names |= {setting: name for name, setting in factors().items()}
    return pd.DataFrame(
        {
            "name": name,
            "row": there[setting],
            "beside": None
            if setting in BASE.values() or diverged(there[setting])
            else Contrast(there[BASE[setting.cell]], there[setting]),
        }
        for setting, name in names.items()
        if setting in there and BASE[setting.cell] in there
    )


def one_factor_table(found: pd.DataFrame) -> pd.DataFrame:
    """`one_factor` as a report shows it."""
    return pd.DataFrame(
        {
            "run": one["name"],
            "epochs": f"{one['row']['epochs']}",
            **{split: number(one["row"][split], 2) for split in SPLITS},
            "change on test": str(one["beside"] or ("diverged" if diverged(one["row"]) else "–")),
            "minutes": minutes(one["row"]["minutes"]),
        }
        for one in found.to_dict("records")
    )


def variants(folder) -> pd.DataFrame:
    """A row a variant of the model: validation / test perplexity of each cell's.

    In brackets validation's change in percent: tying against the exercise's model, the others
    against the tied one. A run that is not there is a dash.
    """
    there = {row["run"].setting: row for row in gather(find_runs(folder)).to_dict("records")}
    columns = {}
    for cell in ablation.ABLATED:
        plain, tied, *more = [there.get(setting) for setting in ablation.variants(cell).values()]
        pairs = [(None, plain), (plain, tied), *((tied, row) for row in more)]
        columns[CELLS[cell].title] = [_variant(before, row) for before, row in pairs]
    return pd.DataFrame({"model": list(ablation.variants("lstm"))} | columns)


def _variant(before: dict | None, row: dict | None) -> str:
    if not row:
        return "–"
    text = f"{row['valid']:.2f} / {row['test']:.2f}"
    return f"{text} ({signed(row['valid'] / before['valid'] - 1, '+.1%')})" if before else text


def trials(table: pd.DataFrame) -> pd.DataFrame:
    """The trials as a report shows them: what was chosen, what it cost and what it reached."""
    numbers = table[["train", "valid", "minutes"]].map("{:.1f}".format)
    choices = table[list(TRIAL_COLUMNS)].assign(cell=[CELLS[cell].title for cell in table["cell"]])
    choices["other choices"] = [_others(row) for row in table.to_dict("records")]
    frame = pd.concat([choices, numbers], axis=1)
    return frame.map(choice).rename(columns=lambda name: name.replace("_", " "))


def _others(row: dict) -> str:
    """The other choices that are not the default's: "tied, weight drop 0.2"."""
    names = [n for n, field in FIELDS.items() if n not in TRIAL_COLUMNS and row[n] != field.default]
    words = {name: name.replace("_", " ") for name in names}
    return ", ".join(
        words[name] if row[name] is True else f"{words[name]} {choice(row[name])}" for name in names
    )


def versions(table: pd.DataFrame) -> pd.DataFrame:
    """The environments in which the runs were made, a row each."""
    return pd.DataFrame([_versions(run) for run in table["run"]])


def _versions(run: Run) -> dict:
    """Of a run that went on elsewhere, all in their order."""
    abouts, device = run.environments, run.metrics.get("device", "cpu")
    abouts = [about | {"commit": _short(about["commit"])} for about in abouts]
    names = ("python", "torch", "processor", "threads", "commit")
    row = {name: ", ".join(dict.fromkeys(str(about[name]) for about in abouts)) for name in names}
    return {"run": run.folder.name} | row | ({} if device == "cpu" else {"processor": device})


def _short(commit: str | None) -> str:
    """A commit's first eight digits, with the "+" behind it of changed code."""
    if commit is None:
        return "none"
    return f"{commit[:8]}+" if commit.endswith("+") else commit[:8]


def markdown(frame: pd.DataFrame) -> str:
    """A frame of text as a table in Markdown."""
    rows = [frame.columns, ["---"] * len(frame.columns), *frame.to_numpy()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def readme_results(table: pd.DataFrame) -> str:
    """The README's table of perplexities, in Markdown."""
    columns = ["setting", "train", "valid", "test", "target", "best epoch", "minutes"]
    return markdown(perplexities(table)[columns])
