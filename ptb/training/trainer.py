"""`Trainer`: a run in progress: schedule, optimiser, steps, averaging, and its whole state."""

import math
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict

import torch
from torch import Tensor

from ptb.data.corpus import SPLITS, Corpus, windows
from ptb.errors import RunError, SettingError, meant
from ptb.evaluation.perplexity import measure
from ptb.models.language_model import LanguageModel, build
from ptb.models.matmul import keep_memory, take_spare_memory
from ptb.runs.checkpoint import ANEW, misfit
from ptb.setting import DEVICES, Setting
from ptb.training.cuda_graph import GraphedStep
from ptb.training.optim import OPTIMISERS, clip_factor, learning_rate


def check_device(device) -> None:
    """Raises SettingError unless it is "cpu", or "cuda" where torch sees a GPU."""
    if device not in DEVICES:
        guess = "cuda" if device == "gpu" else device  # which is spelled more like "cpu"
        allowed = f"{', '.join(DEVICES)}: {meant(guess, DEVICES)}"
        raise SettingError(f"device = {device!r} is none of {allowed}")
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingError("device = 'cuda' needs a GPU and a torch built for it: use 'cpu'")


LARGEST_LOSS = math.log(sys.float_info.max)  # a mean loss beyond it has no finite perplexity


def _values(parameter: Tensor) -> Tensor:
    """The gradient; of a sparse one, which is coalesced, the values of the rows that occurred.

    What is changed in it in place is changed in the gradient that the optimiser sees.
    """
    if parameter.grad.is_sparse:
        parameter.grad = parameter.grad.coalesce()
        return parameter.grad.values()
    return parameter.grad


def offsets(setting: Setting, ids: Tensor) -> int:
    """The number of places where an epoch may start."""
    return min(setting.bptt, len(ids) // 2) if setting.random_offset else 1


class Diverged(Exception):
    """The loss, or its exponential, is no longer finite."""


class Trainer:
    """A run in progress: all that an epoch changes, and how it is saved and resumed.

    Epoch e draws its offset and its masks from a seed of its own, so a run that resumes after an
    epoch needs no random state to go on as if it had never stopped.
    """

    def __init__(self, setting: Setting, corpus: Corpus, device: str = "cpu"):
        self.setting, self.corpus, self.device = setting, corpus, torch.device(device)
        keep_memory()
        self.model = self.initial_model()
        self.parameters = list(self.model.parameters())
        self.optimiser = OPTIMISERS[setting.optimiser].make(setting, self.parameters)
        self.plain_sgd = setting.optimiser == "sgd" and not setting.momentum
        on_cpu = self.device.type == "cpu"
        self.model.embedding.sparse = self.plain_sgd and not setting.tied and on_cpu
        self.average = [p.detach().clone() for p in self.parameters] if setting.average else []
        self.splits = {split: ids.to(self.device) for split, ids in corpus.splits.items()}
        self.history, self.cuts, self.steps = [], 0, 0
        self.text = corpus.fingerprint
        self.saved = None  # the SHA-256 of the best weights' file
        table = 4 * setting.bptt * setting.batch_size * len(corpus.words)  # of logits, in bytes
        self.spare = 4 * table  # ample: the heap's fragments were seen to take one more
        self._capture()

    def _seed(self, epoch: int) -> None:
        torch.manual_seed(1_000_003 * self.setting.seed + epoch)

    def initial_model(self) -> LanguageModel:
        """The model as it is before the first step."""
        self._seed(0)
        return build(self.setting, len(self.corpus.words)).to(self.device)

    def _capture(self) -> None:
        """Has a GPU take steps as a graph, of the tensors that the optimiser has now."""
        self.graphed = None  # the memory of an earlier one
        if self.device.type == "cuda" and OPTIMISERS[self.setting.optimiser].static:
            self.graphed = GraphedStep(self)

    @property
    def device_name(self) -> str:
        """The GPU's name, or "cpu"."""
        on_gpu = self.device.type == "cuda"
        return torch.cuda.get_device_name(self.device) if on_gpu else "cpu"

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return len(self.history)

    @property
    def best(self) -> dict | None:
        """The row of the best validation perplexity so far, the first of equals."""
        return min(self.history, key=lambda row: row["valid"], default=None)

    def step(self, x: Tensor, y: Tensor, state, fraction: float = 0.0):
        """One update on a window; returns its mean loss in nats per token and the next state."""
        lr = learning_rate(self.setting, self.epoch, fraction, self.cuts)
        self.steps += 1
        if self.graphed and len(x) == self.setting.bptt:
            return self.graphed(x, y, state, lr, self._new_share())
        loss, state = self.model.loss(x, y, state)
        self.optimiser.zero_grad()
        loss.backward()
        self._update(lr, [_values(p) for p in self.parameters])
        self._move_average()
        if self.device.type == "cpu":
            take_spare_memory(self.spare)
        return loss.detach(), state

    @torch.no_grad()
    def _update(self, lr: float, gradients: list[Tensor]) -> None:
        """Clips by the norm over all gradients, and steps; plain SGD takes the cut in its rate.

        Plain SGD decays the weights themselves, so that the embedding's gradient can stay sparse.
        """
        if self.plain_sgd and self.setting.weight_decay:
            torch._foreach_mul_(self.parameters, 1 - lr * self.setting.weight_decay)
        if self.setting.clip:
            shrink = clip_factor(gradients, self.setting.clip)
            if self.plain_sgd:
                lr *= shrink.item()
            else:
                torch._foreach_mul_(gradients, shrink)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.step()

    def _new_share(self) -> float:
        """1 − d, for the average's decay d, which is smaller in the first steps."""
        return 1 - min(self.setting.average, self.steps / (self.steps + 10))

    @torch.no_grad()
    def _move_average(self) -> None:
        """avg ← d·avg + (1 − d)·weights."""
        if self.average:
            torch._foreach_lerp_(self.average, self.parameters, self._new_share())

    def run_epoch(self, on_step: Callable | None = None) -> dict:
        """Trains for one epoch and evaluates; returns the epoch's row of the history."""
        self._seed(self.epoch + 1)
        lr = learning_rate(self.setting, self.epoch, 0.0, self.cuts)
        start = time.perf_counter()
        loss, tokens, watching = self._train_epoch(on_step)
        seconds = time.perf_counter() - start - watching
        before = self.history[-1]["seconds"] if self.history else 0.0
        row = {"epoch": self.epoch + 1, "lr": lr, "train_running": math.exp(loss)}
        row |= self._evaluate()
        row |= {"seconds": before + seconds, "tokens_per_second": tokens / seconds}
        if self.best and row["valid"] >= self.best["valid"]:
            self.cuts += 1
        self.history.append(row)
        return row

    def _train_epoch(self, on_step) -> tuple[float, int, float]:
        """One pass over the training split: the mean running loss, tokens, and seconds of on_step.

        In a notebook on_step draws a figure, which is no training.
        """
        setting, ids = self.setting, self.splits["train"]
        offset = int(torch.randint(offsets(setting, ids), ())) if setting.random_offset else 0
        batches = windows(ids, setting.batch_size, setting.bptt, offset)
        zero = self.model.initial_state(setting.batch_size)
        state, total, tokens, watching = zero, 0.0, 0, 0.0
        self.model.train()
        for n, (x, y) in enumerate(batches):
            loss, after = self.step(x, y, state, n / len(batches))
            state = after if setting.carried else zero
            total, tokens = total + loss.item() * y.numel(), tokens + y.numel()
            if not total / tokens < LARGEST_LOSS:
                raise Diverged(f"loss {loss.item()} at step {n + 1} of epoch {self.epoch + 1}")
            if on_step:
                start = time.perf_counter()
                on_step(self.epoch, (n + 1) / len(batches), math.exp(total / tokens))
                watching += time.perf_counter() - start
        return total / tokens, tokens, watching

    def _evaluate(self) -> dict:
        """Perplexities in evaluation mode; train on a slice as long as the validation split."""
        parts = self.splits | {"train": self.splits["train"][: len(self.splits["valid"])]}
        with self.averaged():
            row = {split: measure(self.model, parts[split])["perplexity"] for split in SPLITS}
        if not all(map(math.isfinite, row.values())):
            raise Diverged(f"perplexities {row} after epoch {self.epoch + 1}")
        return row

    @contextmanager
    def averaged(self):
        """A context in which the model has the averaged weights, where averaging is on."""
        self._swap_average()
        try:
            yield
        finally:
            self._swap_average()

    @torch.no_grad()
    def _swap_average(self) -> None:
        """Exchanges values, not tensors, of which a CUDA graph and cuDNN know the place."""
        for parameter, average in zip(self.parameters, self.average, strict=False):
            weights = parameter.clone()
            parameter.copy_(average)
            average.copy_(weights)

    def weights(self) -> dict[str, Tensor]:
        with self.averaged():
            return {name: p.detach().clone() for name, p in self.model.named_parameters()}

    def state(self) -> dict:
        """All that the next epoch depends on, and whose it is."""
        return {
            "setting": asdict(self.setting),
            "text": self.text,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "history": self.history,
            "cuts": self.cuts,
            "steps": self.steps,
            "weights": self.saved,
        }

    def resume(self, state: dict) -> None:
        """Goes on from a state; raises RunError where it is not one of this run, and takes none."""
        if reason := misfit(state, self.state(), self.parameters):
            raise RunError(f"{self.setting.name}: its checkpoint.pt {reason}: {ANEW}")
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        for mine, saved in zip(self.average, state["average"], strict=True):
            mine.copy_(saved)
        self.history, self.cuts, self.steps = state["history"], state["cuts"], state["steps"]
        self.saved = state.get("weights")
        self._capture()  # the optimiser's tensors are others now
