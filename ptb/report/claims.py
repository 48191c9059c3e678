"""How far the second exercise's runs carry: what scale they are of, and what a solution claimed."""

from itertools import combinations

import pandas as pd

from ptb.report.answers import LEVEL, against, all_cases, has, of_the_exercise, on_one_device, shown
from ptb.report.experiments import core, other_scales, reported, size
from ptb.studies.architectures import REPORTED


def caution(table: pd.DataFrame) -> list[str]:
    """What keeps scaled runs from answering for the full size; nothing where the runs have it."""
    runs = core(table)
    if _full(runs):
        return []
    rising = (runs["at_end"] == runs["at_best"]).sum()
    return [
        f"The answers are about {size(runs)}. {rising} of {len(runs)} runs there are still at "
        "their best in the last epoch, so longer training may change their order, and so may width."
    ] + [sentence for other in other_scales(table) for sentence in _orders(other, runs)]


def _full(runs: pd.DataFrame) -> bool:
    return (runs["scale"] == 1).all()


def _orders(*both: pd.DataFrame) -> list[str]:
    """Of each two experiments that are there at two scales: whether their order is the same."""
    names = [name for name in both[1].index if name in both[0].index]
    sentences = []
    for pair in combinations(names, 2):
        rows = [[runs.loc[name] for name in pair] for runs in both]
        texts = [
            f"at {size(runs)} {shown(a)} is {against(a, b)}"
            for runs, (a, b) in zip(both, rows, strict=True)
        ]
        kept = len({a["valid"] < b["valid"] for a, b in rows}) == 1
        order = "the order is the same" if kept else "the order is the other way round"
        sentences.append(f"A{texts[0][1:]}, {texts[1]}: {order}.")
    return sentences


def claims(table: pd.DataFrame) -> list[str]:
    """Three claims of the solution, held against these runs and against its own table."""
    runs, theirs = of_the_exercise(table), {name: row.valid for name, row in REPORTED.items()}
    where = "" if _full(runs) else f" at {size(runs)}"
    behind = f"In its own table 3.3a ({theirs['3.3a']}) is behind the RNN 3.1b ({theirs['3.1b']})."
    sentences = [f"*The GRU is better in all cases.* {text} {behind}" for text in all_cases(runs)]
    for name, what in (("3.3b", "more units"), ("3.3c", "more layers")):
        if has(runs, name, "3.2a"):
            row, base = runs.loc[name], runs.loc["3.2a"]
            verdict = "So it is" if row["valid"] < base["valid"] * (1 - LEVEL) else "Not so"
            text = f"*With {what} the perplexity is lower.* {verdict}{where}: {shown(row)} is "
            lower = "so it is" if theirs[name] < theirs["3.2a"] else "not so"
            own = f"In its own table {lower}: {theirs[name]} against {theirs['3.2a']}."
            sentences.append(f"{text}{against(row, base)}. {own}")
    fastest = on_one_device(runs)["at_end"].nsmallest(2).index
    count = sum(runs.loc[fastest, "cell"] == "transformer")
    said = f"{count} of the two fastest runs, {' and '.join(runs.loc[fastest, 'tag'])},"
    verb = "is a Transformer" if count == 1 else "are Transformers"
    quick = sorted(REPORTED, key=lambda name: REPORTED[name].seconds)[:2]
    own = f"In its own table the two are {' and '.join(quick)}, a Transformer and a GRU."
    return [*sentences, f"*Two Transformers took the least time.* Here {said} {verb}. {own}"]


def yardstick(table: pd.DataFrame) -> list[str]:
    """How the full-size runs on Penn Treebank lie to the solution's figures; none without them."""
    like = table[[reported(row) != "–" for _, row in table.iterrows()]]
    chance = table["unigram"].max()  # of one corpus, the same in all rows
    theirs = pd.Series([REPORTED[name].valid for name in like["experiment"]], like.index)
    learned, close = like[theirs < chance], like["valid"] <= 1.03 * theirs
    sentences = [
        f"{close[learned.index].sum()} of {len(learned)} full-size runs are within 3% of the "
        "solution's best validation perplexity, or better."
    ]
    for place, row in learned[~close[learned.index]].iterrows():
        sentences.append(f"{shown(row)} is not: the solution has {theirs[place]:.1f}.")
    for place, row in like[theirs >= chance].iterrows():
        ours = "does" if row["valid"] < chance else "does not either"
        sentences.append(
            f"The solution's {row['tag']} never gets below what word frequencies alone give "
            f"({theirs[place]:.0f} against {chance:.0f}); ours {ours}."
        )
    return sentences if len(like) else []
