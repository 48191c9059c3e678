"""`python tests/torture.py N`: N runs, killed at random moments until they end, all exact.

Each run is trained in a process that gets SIGKILL again and again, wherever it may be: in a step,
an evaluation, a write. In the end it must be, bit for bit, the run that was never killed.
"""

import multiprocessing
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from conftest import make_corpus, make_setting

from ptb.runs.run import Run
from ptb.training import train as training
from ptb.training.train import train
from ptb.training.trainer import Trainer

CASES = {
    "momentum": {"momentum": 0.9, "lr": 1.0, "dropout": 0.3},
    "adamw": {"optimiser": "adamw", "lr": 0.03, "schedule": "cosine", "weight_decay": 0.1},
    "average": {"average": 0.95, "cell": "gru", "dropout": 0.3},
    "plateau": {"schedule": "plateau", "lr": 30.0, "clip": 1.0, "decay": 0.7},
    "transformer": {
        **{"cell": "transformer", "heads": 2, "feedforward": 8, "init": 0.1},
        **{"optimiser": "adamw", "lr": 0.01, "dropout": 0.3},
    },
}
PLACES = {  # what a killed process was doing, by the function it was in
    "a step": (Trainer, "step"),
    "an evaluation": (Trainer, "_evaluate"),
    "the weights": (Run, "write_weights"),
    "the checkpoint": (Run, "write_checkpoint"),
    "the history": (Run, "write_history"),
    "the last measurement": (training, "_measure"),
    "the last files": (Run, "write"),
    "the start or the end": None,
}


def results(folder) -> tuple:
    """All that must not depend on where a run was stopped."""
    run = Run(folder)
    weights = (run.folder / "weights.safetensors").read_bytes()
    history = run.history.drop(columns=["seconds", "tokens_per_second"]).to_dict("list")
    return history, weights, run.metrics, run.samples, run.texts, run.analysis


def files(folder) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def _mark(place, number: int, owner, name: str) -> None:
    """Has a function say in place, which two processes share, while it is at work."""
    function = getattr(owner, name)

    def marked(*arguments, **options):
        before, place.value = place.value, number
        try:
            return function(*arguments, **options)
        finally:
            place.value = before

    setattr(owner, name, marked)


def work(setting, folder, place) -> None:
    """Trains, in a process of its own."""
    torch.set_num_threads(1)
    for number, where in enumerate(PLACES.values()):
        if where:
            _mark(place, number, *where)
    train(setting, make_corpus(60, 20, 20), folder)  # epochs so short that many kills hit writes


class Torture:
    """Trains in processes forked from a server that has imported torch and computed nothing."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.random, self.hit = folder, random.Random(seed), Counter()
        self.seconds = {}  # of each case, never killed
        self.context = multiprocessing.get_context("forkserver")
        # torch imports _dynamo, two seconds, in the first step of an optimiser
        self.context.set_forkserver_preload(["ptb.training.train", "torch._dynamo", "pytest"])
        self._process(int).join()  # the server has started

    def _process(self, function, *arguments):
        process = self.context.Process(target=function, args=arguments)
        process.start()
        return process

    def attempt(self, setting, folder, seconds: float | None = None) -> bool:
        """Trains for at most so long, then kills; whether the run ended by itself."""
        place = self.context.RawValue("i", len(PLACES) - 1)
        process = self._process(work, setting, folder, place)
        process.join(seconds)
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), f"{setting}: the run failed"
        if process.exitcode:
            self.hit[list(PLACES)[place.value]] += 1
        return process.exitcode == 0

    def whole(self, case: str, setting) -> tuple[Path, float]:
        """The folder of a run never killed, and the seconds it took."""
        if case not in self.seconds:
            start = time.perf_counter()
            assert self.attempt(setting, self.folder / case)
            self.seconds[case] = time.perf_counter() - start
        return self.folder / case, self.seconds[case]

    def round(self, number: int) -> None:
        """A run to its end, however often killed; raises AssertionError where that shows."""
        case = list(CASES)[number % len(CASES)]
        setting, killed = make_setting(epochs=6, **CASES[case]), self.folder / str(number)
        whole, seconds = self.whole(case, setting)
        patience = seconds / 2
        while not self.attempt(setting, killed, self.random.uniform(0, patience)):
            patience *= 1.05  # so that it ends, the longest step being longer than that
        assert results(killed) == results(whole), f"{case}: a run came out otherwise"
        assert files(killed) == files(whole), f"{case}: a killed write left a file"


def torture(rounds: int) -> Counter:
    """How many kills hit what; raises AssertionError for a run that did not survive them."""
    with TemporaryDirectory() as folder:
        torture = Torture(Path(folder), seed=rounds)
        for number in range(rounds):
            torture.round(number)
    return torture.hit


if __name__ == "__main__":
    hit = torture(int(sys.argv[1]))
    print(f"{sys.argv[1]} runs, killed {hit.total()} times, all exact; the kills were in")
    print("\n".join(f"{count:6} {place}" for place, count in hit.most_common()))
