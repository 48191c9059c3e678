"""The training step on a GPU as one CUDA graph: some hundred kernels, started by one call.

Written where no GPU was at hand: its arithmetic is tested on the CPU; of its capture, that of plain
SGD has run, on an H200, and the others' has not.
"""

import torch
from torch import Tensor

from ptb.models.capture import captured, keep, place_for
from ptb.training.optim import OPTIMISERS, clip_factor


class StaticStep:
    """`Trainer.step` over tensors that stay in place, as a graph's replay needs.

    What a step changes besides (the rate, the optimiser's corrections, the average's decay) is in
    tensors too. The optimiser's state is the trainer's own, so that steps of both kinds can follow
    one another. Takes windows of the setting's full T alone: x and y (T, B), a state of (B, H)
    tensors.
    """

    def __init__(self, trainer):
        setting, device = trainer.setting, trainer.device
        self.model, self.parameters, self.clip = trainer.model, trainer.parameters, setting.clip
        update = OPTIMISERS[setting.optimiser].static
        self.update = update(setting, self.parameters, trainer.optimiser)
        self.average, self.new_share = trainer.average, self.parameters[0].new_zeros(())
        self.x, self.y = torch.zeros(
            2, setting.bptt, setting.batch_size, dtype=torch.int64, device=device
        )
        self.state = place_for(self.model.initial_state(setting.batch_size))

    def __call__(self, x: Tensor, y: Tensor, state, lr: float, new_share: float):
        """One update; returns the window's mean loss and the next state, both in place.

        new_share is how much of the average becomes the new weights.
        """
        self.x.copy_(x)
        self.y.copy_(y)
        self.update.set(lr)
        self.new_share.fill_(new_share)
        keep(self.state, state)
        return self.run(), self.state

    def run(self) -> Tensor:
        loss, state = self.model.loss(self.x, self.y, self.state)
        gradients = torch.autograd.grad(loss, self.parameters)
        with torch.no_grad():
            shrink = clip_factor(gradients, self.clip) if self.clip else loss.new_ones(())
            self.update(gradients, shrink)
            if self.average:
                changes = torch._foreach_sub(self.parameters, self.average)
                torch._foreach_mul_(changes, self.new_share)
                torch._foreach_add_(self.average, changes)
        keep(self.state, state)
        return loss.detach()


class GraphedStep(StaticStep):
    """The same, captured. Capturing runs steps and draws masks: weights are put back, draws not."""

    def __init__(self, trainer):
        super().__init__(trainer)
        changed = [*self.parameters, *self.average, *self.update.state]
        before = [tensor.detach().clone() for tensor in changed]
        self.run = captured(self.run)
        with torch.no_grad():
            torch._foreach_copy_(changed, before)
