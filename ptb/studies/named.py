"""The studies by their names: which settings each one trains."""

from ptb.recipes import FOUR, LONG, recipe
from ptb.studies import ablation
from ptb.studies.architectures import DEMO, all_settings
from ptb.studies.factors import OVERFITTING, factors

SEEDS = (2, 3, 4, 5)  # beside the quick recipes' own, 1
STUDIES = {
    "dropout": [recipe(cell, dropout) for cell, dropout in FOUR],
    "long": [recipe(cell, dropout, **best) for (cell, dropout), best in LONG.items()],
    "seeds": [recipe(cell, dropout, seed=seed) for seed in SEEDS for cell, dropout in FOUR],
    "factors": list(factors().values()),
    "overfitting": OVERFITTING,
    "half": [recipe(cell, 0.5) for cell in ("lstm", "gru")],
    "bfloat16": [recipe(cell, dropout, precision="bfloat16") for cell, dropout in FOUR],
    "demo": [recipe(cell, dropout, "embedded") for cell, dropout in FOUR],
    "ablation": [s for cell in ablation.ABLATED for s in ablation.variants(cell).values()],
    "beyond": ablation.FINALISTS,
    "architectures": all_settings("ptb"),
    "demo-architectures": all_settings("embedded", DEMO),
}
MAIN = "dropout"  # the study of the first report
WITH_WEIGHTS = (MAIN, "beyond")  # studies whose weights are published, to be measured again
SECOND_EXERCISE = ("architectures", "demo-architectures")  # studies with a report of their own
