"""`make bench`: what training and evaluating cost on this machine, in less than ten minutes.

First, in turns, tokens a second of a plain PyTorch loop, of this project's training step and of the
machine's limit (see `contestants`), the medians of rounds after a warm-up: on one thread and on
two, where torch sees a GPU there too, and in each precision that the hardware has. Then evaluation,
two runs side by side, long texts, memory, and the time from starting train.ipynb on Penn Treebank
to its first step. All else is made up, so that the repository is all that it needs.

Each row is printed as it is measured. At the end the machine's figures go to report/benchmark.json,
those of other machines stay there, and the tables of README.md and docs/speed.md follow. With
QUICK=1 in the environment: the comparison alone, in two minutes, and nothing is written.
"""

import multiprocessing
import os
import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import psutil
import torch
from contestants import B, Limit, Ours, Plain, T, V, batches, made_up_words, seconds
from nbclient import NotebookClient
from tqdm import tqdm

from ptb.data.corpora import load
from ptb.data.corpus import windows
from ptb.data.penn_treebank import PENN_TREEBANK
from ptb.errors import CorpusError
from ptb.evaluation.perplexity import measure
from ptb.models.precision import rounds_to_bfloat16, use_precision
from ptb.paths import ROOT, relative
from ptb.report.benchmark import BENCHMARK, read_machines, write_benchmark
from ptb.report.publish import write_tables
from ptb.runs.environment import environment

CELLS = ("lstm", "gru")
COMPARING, COMPARING_QUICKLY = 200, 80  # seconds that all rows of the comparison share
SHORT = 10  # seconds of any other measurement, long enough for some tens of steps
STEPS = 3  # of one contestant, before the next has its turn


# ---------------------------------------------------------------- the comparison
def compare(share: float, cell: str, threads: int, device: str, precision: str) -> dict:
    """Tokens a second of the three, which take turns for so many seconds, by their median rounds.

    The precision is that of ours and of the limit; the plain loop is in float32.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    kinds = {"plain": Plain, "ours": Ours, "limit": Limit}
    precisions = dict.fromkeys(kinds, precision) | {"plain": "float32"}
    contestants, turns = {}, batches(STEPS, device)
    for name, kind in kinds.items():
        with use_precision(precisions[name], device):  # a captured step keeps that of its capture
            contestants[name] = kind(cell, device)

    def a_round() -> dict[str, float]:
        took = {}
        for name, contestant in contestants.items():
            with use_precision(precisions[name], device):
                took[name] = sum(seconds(contestant.step, x, y) for x, y in turns) / STEPS
        return took

    a_round()  # warms up
    rounds, end = [], time.perf_counter() + share
    while not rounds or time.perf_counter() < end:
        rounds.append(a_round())
    medians = {name: statistics.median(took[name] for took in rounds) for name in kinds}
    return {
        "cell": cell,
        "device": device,
        "threads": threads,
        "precision": precision,
        **{f"{name}_tokens_per_second": T * B / s for name, s in medians.items()},
        "limit_share": medians["limit"] / medians["ours"],
        "over_plain": medians["plain"] / medians["ours"],
    }


def comparisons() -> list[tuple]:
    """Cell, threads, device and precision of each row that this machine can have."""
    kinds = [(threads, "cpu", "float32") for threads in (1, 2)]
    if rounds_to_bfloat16():
        kinds += [(threads, "cpu", "bfloat16") for threads in (1, 2)]
    if torch.cuda.is_available():
        kinds.append((1, "cuda", "float32"))
        if torch.cuda.is_tf32_supported():
            kinds.append((1, "cuda", "tf32"))
    return [(cell, *kind) for cell in CELLS for kind in kinds]


# ---------------------------------------------------------------- what else a user waits for
def repeat(call: Callable, lasting: float) -> list[float]:
    """Seconds of each call, for so many seconds after one that warms up."""
    call()
    end, took = time.perf_counter() + lasting, []
    while not took or time.perf_counter() < end:
        took.append(seconds(call))
    return took


def evaluation(cell: str, threads: int) -> dict:
    """Tokens a second of measuring a split of made-up words, beside those of training on them."""
    torch.set_num_threads(threads)
    ours, (window, *_) = Ours(cell), batches(1)
    training = T * B / statistics.median(repeat(lambda: ours.step(*window), SHORT / 2))
    ids = made_up_words(4001)
    took = repeat(lambda: measure(ours.trainer.model, ids), SHORT)
    speed = (len(ids) - 1) / statistics.median(took)
    speeds = {"tokens_per_second": speed, "over_training": speed / training}
    return {"cell": cell, "threads": threads} | speeds


def alone(cell: str, lasting: float = SHORT) -> float:
    """Tokens a second of one process with one thread."""
    torch.set_num_threads(1)
    ours, (window, *_) = Ours(cell), batches(1)
    took = repeat(lambda: ours.step(*window), lasting)
    return len(took) * T * B / sum(took)


def side_by_side(cell: str) -> dict:
    """Two processes of one thread each, as a study runs, against one."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(alone, [cell] * 2, [0.1] * 2))  # both have started
        one = pool.submit(alone, cell).result()
        both = sum(pool.map(alone, [cell] * 2))
    return {"cell": cell, "one": one, "both": both, "ratio": both / (2 * one)}


def long_text(times: int) -> dict:
    """Tokens a second of training on a text as long as Penn Treebank's, and so many times as long.

    The first windows of an epoch of each, in turns. The texts are made up, and their ids are in
    memory: the reading of a file is measured by `make bench-reading`.
    """
    torch.set_num_threads(1)
    short = made_up_words(PENN_TREEBANK.tokens["train"]).int()
    ours, took = Ours("lstm"), {1: [], times: []}
    texts = {n: iter(windows(short.repeat(n), B, T)) for n in took}

    def turn() -> None:
        for n, text in texts.items():
            took[n].append(seconds(lambda text=text: ours.step(*next(text))))

    repeat(turn, 2 * SHORT)
    one, many = (T * B / statistics.median(of_one) for of_one in took.values())
    figures = {"one_tokens_per_second": one, "tokens_per_second": many, "ratio": many / one}
    return {"penn_treebanks": times, "steps": len(took[times]), **figures}


# ---------------------------------------------------------------- memory
def resident_mb() -> float:
    return psutil.Process().memory_info().rss / 2**20


def peak_mb() -> float:
    """The most that this process has had; where the system doesn't tell, what it has now."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resident_mb()
    return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 2**10


def training_memory(cell: str) -> dict:
    """Megabytes of one training process, averaging on: at its peak, and its late growth."""
    torch.set_num_threads(1)
    ours, cut, resident = Ours(cell, average=0.99), cycle(batches(10)), []

    def step() -> None:
        ours.step(*next(cut))
        resident.append(resident_mb())

    repeat(step, 3 * SHORT)
    # the lowest of many steps: what is there for a moment only does not count
    quarter = max(1, len(resident) // 4)
    growth = min(resident[-quarter:]) - min(resident[quarter : 2 * quarter])
    return {"cell": cell, "steps": len(resident), "peak_mb": peak_mb(), "growth_mb": growth}


def evaluation_memory(cell: str) -> dict:
    """Megabytes of a process that measures splits, and what it grew by after the first."""
    torch.set_num_threads(1)
    model, ids, resident = Ours(cell).trainer.model, made_up_words(8001), []

    def one() -> None:
        measure(model, ids)
        resident.append(resident_mb())

    repeat(one, SHORT)
    return {"cell": cell, "peak_mb": peak_mb(), "growth_mb": resident[-1] - resident[0]}


def afresh(function: Callable, *arguments) -> dict:
    """What the function returns in a process of its own, which has not done anything else."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


# ---------------------------------------------------------------- the start
def start_up() -> float:
    """Seconds from starting train.ipynb on Penn Treebank to the end of its first step."""
    notebook = nbformat.read(ROOT / "notebooks" / "train.ipynb", 4)
    (cell,) = (c for c in notebook.cells if '"on_step": live.step' in c.source)
    cell.source = cell.source.replace('"on_step": live.step', '"on_step": lambda *_: 1 / 0')
    parameters = notebook.cells[1]
    client = NotebookClient(notebook, resources={"metadata": {"path": ROOT / "notebooks"}})
    with TemporaryDirectory() as folder:
        parameters.source += f"\nfolder = {folder!r}"
        start = time.perf_counter()
        try:
            client.execute()
        except Exception as error:
            if "ZeroDivisionError" not in str(error):
                raise
        return time.perf_counter() - start


def start_up_row() -> dict | None:
    """None where Penn Treebank is neither here nor to be fetched."""
    try:
        load("ptb")
    except CorpusError as error:
        tqdm.write(f"train.ipynb's start is left out: {error}")
        return None
    return {"seconds": statistics.median(start_up() for _ in range(3))}


# ---------------------------------------------------------------- all of it
def plan(quick: bool) -> list[tuple[str, int, Callable]]:
    """Each row's table, about how many seconds it takes, and what measures it."""
    kinds = comparisons()
    share = (COMPARING_QUICKLY if quick else COMPARING) / len(kinds)
    rows = [("step", round(share) + 4, lambda k=k: compare(share, *k)) for k in kinds]
    if quick:
        return rows
    pairs = [(cell, threads) for cell in CELLS for threads in (1, 2)]
    rows += [("evaluation", 18, lambda p=p: evaluation(*p)) for p in pairs]
    rows += [("side_by_side", 35, lambda c=c: side_by_side(c)) for c in CELLS]
    rows.append(("long_text", 30, lambda: afresh(long_text, 100)))
    rows += [("training_memory", 35, lambda c=c: afresh(training_memory, c)) for c in CELLS]
    rows += [("evaluation_memory", 18, lambda c=c: afresh(evaluation_memory, c)) for c in CELLS]
    return [*rows, ("start_up", 20, start_up_row)]


def line(table: str, row: dict) -> str:
    """A row in words: what identifies it, then its figures."""
    said = [f"{value:,.4g}" if isinstance(value, float) else str(value) for value in row.values()]
    words = [f"{name} {value}" for name, value in zip(row, said, strict=True)]
    return f"{table}: {', '.join(words)}".replace("_", " ")


def main() -> None:
    quick = bool(os.environ.get("QUICK"))
    if not quick:
        read_machines()  # where they can't be read, it is better to know before ten minutes
    here = environment()  # before a row sets its own number of threads
    rows, found = plan(quick), {}
    print(f"{here['processor']}: tokens a second, T = {T}, B = {B}, {V:,} words")
    layout = "{desc} {percentage:3.0f}% |{bar}| about {remaining} left"
    with tqdm(total=sum(expected for _, expected, _ in rows), bar_format=layout) as bar:
        for table, expected, measured in rows:
            bar.set_description_str(table)
            if (row := measured()) is not None:
                found.setdefault(table, []).append(row)
                tqdm.write(line(table, row))
            bar.update(expected)
    if not quick:
        about = {"machine": here["processor"], "measured": date.today().isoformat()}
        about |= {"source": "make bench", "environment": here}
        if torch.cuda.is_available():
            about["gpu"] = torch.cuda.get_device_name()
        write_benchmark(about | found)
        write_tables()
        print(f"written: {relative(BENCHMARK)}")
        print("report.pdf quotes them; to renew it: python -m ptb study rebuild dropout")


if __name__ == "__main__":
    main()
