"""Tokens a second: a plain PyTorch loop, this project's training step, and the machine's limit.

The limit is the time of only the matrix products that a step needs, each by the faster of torch's
own product into a preallocated output and the project's `product`. All three take turns in one
process; figures are medians of rounds after a warm-up. Then memory, two processes side by side, and
the time from starting train.ipynb to its first step. Where torch sees a GPU, the same comparison
there; and in each precision of products that the hardware has. Writes report/benchmark.json.
"""

import json
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor

import nbformat
import psutil
import torch
from nbclient import NotebookClient

from ptb.data.corpus import Corpus
from ptb.evaluation.perplexity import measure
from ptb.models.cells import CELLS
from ptb.models.matmul import product
from ptb.models.plain import PlainModel, train_step
from ptb.models.precision import rounds_to_bfloat16, use_precision
from ptb.paths import ROOT
from ptb.runs.environment import environment
from ptb.runs.files import write_json
from ptb.setting import Setting
from ptb.training.trainer import Trainer

T, B, H, V = 35, 20, 200, 10_000
ROUNDS, STEPS = 7, 15


def batches(count: int, device: str = "cpu") -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Windows of made-up words with Zipf's frequencies, as a text's are."""
    weights = 1 / torch.arange(1, V + 1)
    words = torch.multinomial(weights, count * T * B + 1, True).to(device)
    return [tuple(words[i : i + T * B].view(T, B) for i in (n, n + 1)) for n in range(count)]


class Plain:
    """The plain loop: `ptb.models.plain`, torch's modules and nothing else."""

    def __init__(self, cell: str, device: str):
        self.model = PlainModel(cell, V, H, H, dropout=0.3).to(device)
        self.optimiser = torch.optim.SGD(self.model.parameters(), lr=1.0)
        self.state = None

    def step(self, x, y):
        arguments = self.model, self.optimiser, x, y, self.state
        loss, self.state = train_step(*arguments, clip=0.25)
        return loss


def made_up_corpus() -> Corpus:
    ids = torch.randint(V, (2 * T * B,))
    return Corpus(
        "made up", tuple(map(str, range(V))), dict.fromkeys(("train", "valid", "test"), ids)
    )


class Ours:
    """The project's training step, through its public interface."""

    def __init__(self, cell: str, device: str = "cpu", average: float = 0.0):
        setting = Setting(cell=cell, dropout=0.3, lr=1.0, schedule="hold", hold=9, average=average)
        self.trainer = Trainer(setting, made_up_corpus(), device)
        self.trainer.model.train()
        self.state = self.trainer.model.initial_state(B)

    def step(self, x, y):
        loss, self.state = self.trainer.step(x, y, self.state)
        return loss.item()


def needed_products(cell: str) -> list[tuple[int, int, int, int]]:
    """(M, K, N, times a step) of every product that training the model cannot avoid."""
    gates, rows = CELLS[cell].gates * H, T * B
    output = [(rows, H, V, 1), (rows, V, H, 1), (H, rows, V, 1)]
    batched = [(rows, H, gates, 2), (rows, gates, H, 2), (H, rows, gates, 4)]
    recurrent = [(B, H, gates, 2 * T), (B, gates, H, 2 * T)]
    return output + batched + recurrent


class Limit:
    """Only the products, each by the faster of two ways."""

    def __init__(self, cell: str, device: str):
        needed = needed_products(cell)
        self.work = [(self._faster(m, k, n, device), times) for m, k, n, times in needed]

    @staticmethod
    def _faster(m: int, k: int, n: int, device: str):
        a, b, out = (torch.randn(shape, device=device) for shape in ((m, k), (k, n), (m, n)))
        ways = [lambda: torch.mm(a, b, out=out), lambda: product(a, b)]
        return min(ways, key=lambda way: min(seconds(way) for _ in range(7)))

    def step(self, *_):
        for multiply, times in self.work:
            for _ in range(times):
                multiply()


def seconds(call, *arguments) -> float:
    """Of a call, until a GPU has done what it was given."""
    start = time.perf_counter()
    call(*arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(cell: str, threads: int, device: str = "cpu", precision: str = "float32") -> dict:
    """Tokens a second of the three, which take turns, by their median rounds.

    The precision is that of ours and of the limit; the plain loop is in float32.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    kinds = {"plain": Plain, "ours": Ours, "limit": Limit}
    precisions = dict.fromkeys(kinds, precision) | {"plain": "float32"}
    contestants = {}
    for name, kind in kinds.items():
        with use_precision(precisions[name], device):  # a captured step keeps that of its capture
            contestants[name] = kind(cell, device)
    windows, found = batches(STEPS, device), {name: [] for name in contestants}
    for _ in range(ROUNDS + 1):
        for name, contestant in contestants.items():
            with use_precision(precisions[name], device):
                took = sum(seconds(contestant.step, x, y) for x, y in windows)
            found[name].append(took / STEPS)
    medians = {name: statistics.median(times[1:]) for name, times in found.items()}
    return {
        "cell": cell,
        "device": device,
        "threads": threads,
        "precision": precision,
        **{f"{name}_tokens_per_second": T * B / s for name, s in medians.items()},
        "limit_share": medians["limit"] / medians["ours"],
        "over_plain": medians["plain"] / medians["ours"],
    }


def alone(cell: str, steps: int = 150) -> float:
    """Tokens a second of one process with one thread."""
    torch.set_num_threads(1)
    ours, windows = Ours(cell), batches(10)
    for x, y in windows:
        ours.step(x, y)
    return steps * T * B / sum(seconds(ours.step, *windows[n % 10]) for n in range(steps))


def side_by_side(cell: str) -> dict:
    """Two processes of one thread each, as a study runs, against one."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(alone, cell, 1).result()
        one = [pool.submit(alone, cell).result() for _ in range(3)]
        both = [sum(f.result() for f in [pool.submit(alone, cell) for _ in "12"]) for _ in range(3)]
    one, both = statistics.median(one), statistics.median(both)
    return {"cell": cell, "one": one, "both": both, "ratio": both / (2 * one)}


def memory(cell: str) -> dict:
    """Megabytes of one training process, averaging on: at its peak, and grown over 500 steps."""
    torch.set_num_threads(1)
    ours, windows, process = Ours(cell, average=0.99), batches(10), psutil.Process()
    resident = []
    for n in range(700):
        ours.step(*windows[n % 10])
        resident.append(process.memory_info().rss / 2**20)
    # lowest of 100 steps: the allocator gives the logits' 28 MB back and takes them again
    growth = min(resident[-100:]) - min(resident[100:200])
    return {"cell": cell, "peak_mb": max(resident), "growth_mb": growth}


def evaluation_memory(cell: str) -> dict:
    """Megabytes of a process once it has measured a split, and grown by measuring it twice more."""
    torch.set_num_threads(1)
    model, ids, process = Ours(cell).trainer.model, torch.randint(V, (50_000,)), psutil.Process()
    resident = []
    for _ in range(3):
        measure(model, ids)
        resident.append(process.memory_info().rss / 2**20)
    return {"cell": cell, "resident_mb": resident[0], "growth_mb": resident[-1] - resident[0]}


def start_up() -> float:
    """Seconds from starting train.ipynb on Penn Treebank to the end of its first step."""
    notebook = nbformat.read(ROOT / "notebooks" / "train.ipynb", 4)
    (cell,) = (c for c in notebook.cells if "on_step=live.step" in c.source)
    cell.source = cell.source.replace("on_step=live.step", "on_step=lambda *_: 1 / 0")
    parameters = notebook.cells[1]
    parameters.source += "\nimport tempfile\nfolder = tempfile.mkdtemp()\ndel tempfile"
    client = NotebookClient(notebook, resources={"metadata": {"path": ROOT / "notebooks"}})
    start = time.perf_counter()
    try:
        client.execute()
    except Exception as error:
        if "ZeroDivisionError" not in str(error):
            raise
    return time.perf_counter() - start


def table(found: dict) -> str:
    """The figures as the README shows them."""
    lines = ["| | tokens/s: plain loop | this project | products alone | share of the limit |"]
    lines.append("|---|---|---|---|---|")
    for row in found["step"]:
        speeds = [f"{row[f'{name}_tokens_per_second']:,.0f}" for name in ("plain", "ours", "limit")]
        speeds[1] += f" ({row['over_plain']:.1f}×)"
        threads = f"{row['threads']} thread{'s' * (row['threads'] > 1)}"
        where = threads if row["device"] == "cpu" else "GPU"
        where += "" if row["precision"] == "float32" else f", {row['precision']}"
        speeds.append(f"{row['limit_share']:.0%}")
        lines.append(f"| {row['cell'].upper()}, {where} | {' | '.join(speeds)} |")
    return "\n".join(lines)


def main() -> None:
    waited = statistics.median(start_up() for _ in range(3))  # first: it needs Penn Treebank
    found = {"environment": environment(), "start_up_seconds": waited}
    kinds = [(n, "cpu", "float32") for n in (1, 2)]
    if rounds_to_bfloat16():
        kinds += [(n, "cpu", "bfloat16") for n in (1, 2)]
    if torch.cuda.is_available():
        kinds.append((1, "cuda", "float32"))
        if torch.cuda.is_tf32_supported():
            kinds.append((1, "cuda", "tf32"))
    found["step"] = [compare(cell, *kind) for cell in ("lstm", "gru") for kind in kinds]
    found["side_by_side"] = [side_by_side(cell) for cell in ("lstm", "gru")]
    fresh = {"mp_context": multiprocessing.get_context("spawn"), "max_tasks_per_child": 1}
    with ProcessPoolExecutor(1, **fresh) as pool:
        found["memory"] = list(pool.map(memory, ("lstm", "gru")))
        found["evaluation_memory"] = list(pool.map(evaluation_memory, ("lstm", "gru")))
    write_json(ROOT / "report" / "benchmark.json", found)
    print(table(found))
    print(json.dumps({k: v for k, v in found.items() if k != "step"}, indent=1))


if __name__ == "__main__":
    main()
