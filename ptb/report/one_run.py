"""What train.ipynb shows of its run: the setting, the perplexities, and where to go from there."""

import shlex

import pandas as pd
from IPython.display import Markdown

from ptb.data.corpus import SPLITS
from ptb.paths import from_here
from ptb.report import figures
from ptb.report.display import Table, table
from ptb.report.text import choice
from ptb.runs.run import Run
from ptb.setting import (
    EXPERIMENT_ONLY,
    FIELDS,
    RECURRENT_ONLY,
    TRANSFORMER_ONLY,
    Setting,
    target_of,
)


def setting_table(setting: Setting) -> Table:
    """The setting's choices but for those that its cell, optimiser or schedule never reads."""
    pairs = [(n, choice(getattr(setting, n))) for n in FIELDS if _applies(n, setting)]
    pairs += [("", "")] * (len(pairs) % 2)
    half = len(pairs) // 2  # side by side, so that the table fits a screen
    rows = [left + right for left, right in zip(pairs[:half], pairs[half:], strict=True)]
    frame = pd.DataFrame(rows, columns=["choice", "value"] * 2)
    return table(frame, "The setting of this run.", "tab:setting")


def _applies(name: str, setting: Setting) -> bool:
    transformer = setting.cell == "transformer"
    conditions = {
        **dict.fromkeys(RECURRENT_ONLY, not transformer),
        **dict.fromkeys(TRANSFORMER_ONLY, transformer),
        "reset": setting.cell == "gru",
        **dict.fromkeys(("augmented", "projected"), setting.tied),
        "momentum": setting.optimiser == "sgd",
        "hold": setting.schedule == "hold",
        "decay": setting.schedule in ("hold", "plateau"),
        **dict.fromkeys(EXPERIMENT_ONLY, bool(setting.experiment)),
        "precision": setting.precision != Setting.precision,
    }
    return conditions.get(name, True)


def result(run: Run) -> Table | Markdown:
    """Perplexities of the saved weights and, where the exercise sets one, the target."""
    metrics, target = run.metrics, target_of(run.setting)
    if metrics["best_epoch"] is None:
        return Markdown(f"The run diverged ({metrics['reason']}): it has no measured weights.")
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
    if target:
        reached = metrics["valid"]["perplexity"] < target
        caption += f" The exercise asks for a validation perplexity below {target}: "
        caption += "reached." if reached else "not reached."
    if sliding := metrics.get("sliding"):
        for row in rows:
            found = sliding.get(row["split"])
            row["sliding"] = f"{found['perplexity']:.2f}" if found else "–"
        caption += " Perplexity is of windows that do not overlap; sliding: of each word given "
        caption += f"the {run.setting.bptt} before it, on validation and test."
    return table(pd.DataFrame(rows), caption, "tab:result")


def next_steps(run: Run) -> Markdown:
    """Where one goes from a finished run: its weights tested, in the notebook or by a command."""
    folder = from_here(run.folder)
    return Markdown(
        f"""**Next: [evaluate.ipynb](evaluate.ipynb)** measures these weights again, colours a text
by surprise and lets the model write on. In its parameters cell:

```python
run = {folder!r}
```

or on the command line:

```sh
papermill evaluate.ipynb out.ipynb -p run {shlex.quote(folder)}
```

[report.ipynb](report.ipynb) compares the four settings once they are trained;
[cells.ipynb](cells.ipynb) takes the cells apart."""
    )
