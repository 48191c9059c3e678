"""report/benchmark.json: what machines take for a step, a table each; the pages' tables of it.

At the top are the figures of the machine that `make bench` ran on last, under "others" those of
other machines, which may lack some. A row under "step" is one comparison: cell, device, threads,
precision, tokens a second of the plain loop, of ours and of the products alone, and their ratios.
"""

import pandas as pd

from ptb.errors import counted
from ptb.paths import ROOT, relative
from ptb.report.tables import markdown
from ptb.runs.files import parse_json, read_file, write_json

BENCHMARK = ROOT / "report" / "benchmark.json"


def read_machines() -> list[dict]:
    """Each machine's figures, those of the one at the top first; none where there is no file."""
    if not BENCHMARK.exists():
        return []
    top = read_file(BENCHMARK, parse_json, relative(BENCHMARK))
    return [top, *top["others"]]


def write_benchmark(found: dict) -> None:
    """Puts a machine's figures at the top; those of others stay, its own earlier ones go."""
    same = found["machine"], found.get("gpu")
    others = [other for other in read_machines() if (other["machine"], other.get("gpu")) != same]
    for other in others:
        other.pop("others", None)
    write_json(BENCHMARK, found | {"others": others})


def comparisons() -> list[tuple[dict, dict]]:
    """Each machine with each row of its comparison."""
    return [(machine, row) for machine in read_machines() for row in machine["step"]]


def _name(machine: dict, row: dict) -> str:
    """The machine's, or its GPU's where that computes."""
    on_gpu = row["device"] == "cuda"
    name = machine.get("gpu", machine["machine"]) if on_gpu else machine["machine"]
    return _short(name)


def _short(name: str) -> str:
    """Without the marks that Intel has in its processors' names."""
    return name.replace("(R)", "")


def _where(machine: dict, row: dict) -> str:
    """The machine and its threads, or its GPU; a precision other than float32."""
    threads = counted(row["threads"], "thread")
    on_gpu = row["device"] == "cuda"
    rounded = "" if row["precision"] == "float32" else f", {row['precision']}"
    return f"{_name(machine, row)}{'' if on_gpu else f', {threads}'}{rounded}"


def _number(row: dict, name: str, form: str) -> str:
    """A figure of a row, or a dash where it was not measured."""
    return f"{row[name]:{form}}" if name in row else "–"


def _ours(row: dict) -> str:
    """Tokens a second, and how many times the plain loop's."""
    times = f" ({row['over_plain']:.1f}×)" if "over_plain" in row else ""
    return _number(row, "ours_tokens_per_second", ",.0f") + times


def speeds() -> str:
    """The README's table: a line a machine, by one thread where it is no GPU, in float32."""
    lines = {}
    for machine, row in comparisons():
        if row["threads"] == 1 and row["precision"] == "float32":
            name = _name(machine, row)
            lines.setdefault(name, {})[row["cell"]] = _ours(row)
    return markdown(
        pd.DataFrame(
            {
                "tokens a second": name,
                **{cell.upper(): ours.get(cell, "–") for cell in ("lstm", "gru")},
            }
            for name, ours in lines.items()
        )
    )


def steps() -> str:
    """The table of docs/speed.md: every row of every machine."""
    rows = [
        {
            "": f"{row['cell'].upper()}, {_where(machine, row)}",
            "tokens/s: plain loop": _number(row, "plain_tokens_per_second", ",.0f"),
            "this project": _ours(row),
            "products alone": _number(row, "limit_tokens_per_second", ",.0f"),
            "share of the limit": _number(row, "limit_share", ".0%"),
        }
        for machine, row in comparisons()
    ]
    return markdown(pd.DataFrame(rows))


def machines() -> str:
    """When, at which commit and how each machine's figures were measured."""
    rows = [
        {
            "machine": _short(", ".join(machine[k] for k in ("machine", "gpu") if k in machine)),
            "measured": machine["measured"],
            "commit": (machine["environment"]["commit"] or "not noted")[:9],
            "source": machine["source"],
        }
        for machine in read_machines()
    ]
    return markdown(pd.DataFrame(rows))
