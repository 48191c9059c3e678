"""The training step on a GPU as one CUDA graph: some hundred kernels, started by one call.

Written where no GPU was at hand: its arithmetic is tested on the CPU, its capture and its speed are
not.
"""

import torch
from torch import Tensor

from ptb.training.optim import clip_factor


class StaticStep:
    """`Trainer.step` of plain SGD over tensors that stay in place, as a graph's replay needs.

    Takes windows of the setting's full T alone: x and y (T, B), a state of (B, H) tensors.
    """

    def __init__(self, trainer):
        setting, device = trainer.setting, trainer.device
        self.model, self.parameters, self.clip = trainer.model, trainer.parameters, setting.clip
        self.decay = setting.weight_decay
        self.x, self.y = torch.zeros(
            2, setting.bptt, setting.batch_size, dtype=torch.int64, device=device
        )
        self.lr = torch.zeros((), device=device)
        self.state = self.model.initial_state(setting.batch_size)
        self.state = tuple(tuple(part.clone() for part in layer) for layer in self.state)

    def __call__(self, x: Tensor, y: Tensor, state, lr: float):
        """One update; returns the window's mean loss and the next state, both in place."""
        self.x.copy_(x)
        self.y.copy_(y)
        self.lr.fill_(lr)
        self._keep(state)
        return self.run(), self.state

    def run(self) -> Tensor:
        loss, state = self.model.loss(self.x, self.y, self.state)
        gradients = torch.autograd.grad(loss, self.parameters)
        with torch.no_grad():
            torch._foreach_mul_(self.parameters, 1 - self.lr * self.decay)
            # not in place: two biases may have one gradient
            shrink = clip_factor(gradients, self.clip) if self.clip else torch.ones_like(self.lr)
            changes = torch._foreach_mul(gradients, self.lr * shrink)
            torch._foreach_sub_(self.parameters, changes)
        self._keep(state)
        return loss.detach()

    def _keep(self, state) -> None:
        for mine, layer in zip(self.state, state, strict=True):
            torch._foreach_copy_(mine, layer)


class GraphedStep(StaticStep):
    """The same, captured. Capturing runs steps and draws masks: weights are put back, draws not."""

    def __init__(self, trainer):
        super().__init__(trainer)
        before = [p.detach().clone() for p in self.parameters]
        self._warm_up()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = super().run()
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, before)

    def _warm_up(self) -> None:
        """Three steps beside the default stream, as PyTorch's manual asks before a capture."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                super().run()
        torch.cuda.current_stream().wait_stream(stream)

    def run(self) -> Tensor:
        self.graph.replay()
        return self.loss
