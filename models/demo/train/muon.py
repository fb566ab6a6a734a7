"""Muon: momentum whose updates are made orthogonal, for matrices and convolutions inside a network.

After Keller Jordan's "Muon: An optimizer for hidden layers in neural networks" (2024).
PyTorch has one that orthogonalises in bfloat16, which processors without bfloat16
units compute slowly; this one works in f32 and takes matrices of one shape together.
"""

from collections import defaultdict

import torch

ITERATIONS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # coefficients of the published iteration
# Updates are scaled to the usual size of Adam's, so that one learning rate serves both ("Muon is scalable for LLM
# training", arXiv 2502.16982, section 2.2).
ADAM_RMS = 0.2


def orthogonalised(matrices: torch.Tensor) -> torch.Tensor:
    """Replaces the singular values of [N, rows, columns] by about 1 (Newton-Schulz)."""
    a, b, c = QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """For matrices, and convolutions as matrices of output channels by all else; others belong to AdamW."""

    def __init__(self, params, lr: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for parameter in group["params"]:
                by_shape[parameter.flatten(1).shape].append(parameter)
            for shape, parameters in by_shape.items():
                updates = torch.stack([self._momentum(p, group["momentum"]).flatten(1) for p in parameters])
                scale = group["lr"] * ADAM_RMS * max(shape) ** 0.5
                for parameter, update in zip(parameters, orthogonalised(updates), strict=True):
                    parameter.add_(update.view(parameter.shape), alpha=-scale)

    def _momentum(self, parameter: torch.Tensor, momentum: float) -> torch.Tensor:
        """Nesterov's momentum of the gradient."""
        state = self.state[parameter]
        if not state:
            state["average"] = torch.zeros_like(parameter)
        state["average"].lerp_(parameter.grad, 1.0 - momentum)
        return parameter.grad.lerp(state["average"], momentum)


class Both:
    """Muon and AdamW as one optimizer."""

    def __init__(self, *optimizers: torch.optim.Optimizer):
        self.optimizers = optimizers

    @property
    def param_groups(self) -> list[dict]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def state_dict(self) -> list[dict]:
        return [optimizer.state_dict() for optimizer in self.optimizers]

    def load_state_dict(self, states: list[dict]) -> None:
        for optimizer, state in zip(self.optimizers, states):
            optimizer.load_state_dict(state)
