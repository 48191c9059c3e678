"""The search for recipes as the report shows it."""

from dataclasses import fields

import pandas as pd

from ptb.setting import Setting

CHOICES = ("cell", "dropout", "lr", "weight_decay", "epochs")  # with columns of their own


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The trials as a report shows them: what was chosen, what it cost and what it reached."""
    numbers = table[["train", "valid", "minutes"]].map("{:.1f}".format)
    choices = table[list(CHOICES)].assign(beside=[_beside(row) for row in table.to_dict("records")])
    frame = pd.concat([choices, numbers], axis=1)
    return frame.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value))


def _beside(row: dict) -> str:
    """The other choices that are not the default's: "tied, weight_drop 0.2"."""
    names = [f.name for f in fields(Setting) if f.name not in CHOICES and row[f.name] != f.default]
    return ", ".join(name if row[name] is True else f"{name} {row[name]}" for name in names)


def about(table: pd.DataFrame) -> str:
    """How many trials there were, what they cost, and what was found without a record."""
    hours = table["minutes"].sum() / 60
    return (
        f"The table has {len(table)} settings, {hours:.0f} hours of training. "
        "Validation perplexity chose between them. The learning rates and the clip come from "
        "earlier searches of which no record was kept."
    )
