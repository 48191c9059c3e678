"""Memory of reading a text and of training on it: of Penn Treebank's size, and a hundred times it.

The texts are made up, in a temporary folder (500 MB). A fresh process reads each, then trains for
400 steps. Linux alone tells a process its peak memory. Writes report/reading.json.
"""

import json
import multiprocessing
import re
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import torch

from ptb.data.corpora import load
from ptb.data.penn_treebank import PENN_TREEBANK
from ptb.paths import ROOT
from ptb.runs.environment import environment
from ptb.runs.files import write_json
from ptb.setting import Setting
from ptb.training.train import train

SENTENCE = 22  # words and an <eos>, about as in Penn Treebank
STEPS = 400
TOKENS, TYPES = PENN_TREEBANK.tokens, PENN_TREEBANK.types
MB = 2**20


def made_up_text(tokens: int) -> str:
    """Lines of words with Zipf's frequencies; each of the types occurs."""
    rng, frequencies = np.random.default_rng(1), 1 / np.arange(1, TYPES)
    words = np.array(["<unk>", *(f"no{n}" for n in range(TYPES - 2))], dtype=object)
    shape = (tokens - TYPES) // SENTENCE, SENTENCE - 1
    drawn = rng.choice(words, shape, p=frequencies / frequencies.sum())
    return "".join(" ".join(line) + "\n" for line in [words, *drawn])


def peak() -> int:
    """The most bytes that this process has had resident."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])


class Enough(Exception):
    """So many steps say how memory grows."""


def resident_by_step(corpus, folder: Path) -> list[int]:
    """Bytes resident after each step of training."""
    process, resident = psutil.Process(), []

    def on_step(*_):
        resident.append(process.memory_info().rss)
        if len(resident) == STEPS:
            raise Enough

    try:
        train(Setting(), corpus, folder, on_step=on_step)
    except Enough:
        return resident


def measure(folder: Path) -> dict:
    """What one fresh process needs for the text in the folder."""
    torch.set_num_threads(1)
    before, start = psutil.Process().memory_info().rss, time.perf_counter()
    corpus = load(str(folder))
    seconds, needed = time.perf_counter() - start, peak() - before
    size = (folder / "train.txt").stat().st_size
    resident = resident_by_step(corpus, folder / "run")
    return {
        "training_tokens": len(corpus["train"]),
        "file_mb": size / MB,
        "seconds": seconds,
        "needed_mb": needed / MB,
        "needed_over_file": needed / size,
        # the lowest of 100 steps: what is there for a moment only does not count
        "growth_mb": (min(resident[-100:]) - min(resident[100:200])) / MB,
    }


def measure_made_up(times: int) -> dict:
    """With that many copies of the training text in one file."""
    with TemporaryDirectory() as folder:
        for split, tokens in TOKENS.items():
            text = made_up_text(tokens)
            with Path(folder, f"{split}.txt").open("w") as file:
                file.writelines([text] * (times if split == "train" else 1))
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(measure, Path(folder)).result()


def main() -> None:
    found = {"environment": environment(), "texts": [measure_made_up(n) for n in (1, 100)]}
    write_json(ROOT / "report" / "reading.json", found)
    print(json.dumps(found["texts"], indent=1))


if __name__ == "__main__":
    main()
