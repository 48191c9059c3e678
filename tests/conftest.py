"""What several folders' tests need: a tiny corpus and setting, Penn Treebank if it is here."""

import os
import random
from pathlib import Path

import pytest
import torch

from ptb.data.corpus import Corpus
from ptb.data.penn_treebank import PENN_TREEBANK
from ptb.paths import DATA
from ptb.setting import Setting

torch.set_num_threads(1)  # several tests run at once, on few cores
os.environ.setdefault("OMP_NUM_THREADS", "1")  # and in the processes that they start

# Each file runs in one process; starting the slowest first keeps all of them busy to the end.
SLOWEST = [
    f"test_{name}.py"
    for name in (
        "notebooks", "second_report", "readme", "pdf", "inside", "execute", "lesson", "text",
        "local", "cells_notebook", "site", "torture",
    )
]  # fmt: skip


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


# <eos> is 0; who comes third depends on who came first, so that a state pays
SENTENCES = ([1, 3, 4, 0], [2, 3, 5, 0], [1, 3, 4, 6, 0], [2, 3, 5, 6, 0])


def tiny_text(tokens: int, seed: int) -> torch.Tensor:
    rng, ids = random.Random(seed), []
    while len(ids) < tokens:
        ids += rng.choice(SENTENCES)
    return torch.tensor(ids, dtype=torch.int32)


def make_corpus(train: int = 300, valid: int = 60, test: int = 70) -> Corpus:
    """A tiny corpus, its splits at least so many tokens long."""
    splits = {
        "train": tiny_text(train, 1),
        "valid": tiny_text(valid, 2),
        "test": tiny_text(test, 3),
    }
    return Corpus("tiny", ("<eos>", "ann", "bob", "has", "cats", "dogs", "too"), splits)


def make_setting(**chosen) -> Setting:
    """A setting for the tiny corpus; what is given replaces its choices."""
    sizes = {"embedding": 6, "hidden": 6, "bptt": 5, "batch_size": 4}
    rest = {"corpus": "tiny", "lr": 5.0, "epochs": 2, "init": 0.8}
    return Setting(**sizes | rest | chosen)


@pytest.fixture
def tiny_corpus() -> Corpus:
    return make_corpus()


@pytest.fixture
def tiny_setting():
    """make_setting."""
    return make_setting


@pytest.fixture
def ptb_folder() -> Path:
    """The folder with Penn Treebank's files; without it the test is skipped."""
    folder = Path(os.environ.get("PTB_DATA") or DATA / "ptb").expanduser()
    if not all((folder / file).is_file() for file in PENN_TREEBANK.sha256):
        pytest.skip("needs Penn Treebank: name its folder in PTB_DATA, or put it into data/ptb")
    return folder
