"""What the training stages share: folders, workers, schedule, checkpoints, logs."""

import csv
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

DEMO_DIR = Path(__file__).resolve().parent.parent
CHECKPOINT_DIR = DEMO_DIR / ".checkpoints"
LOG_DIR = DEMO_DIR / "logs"
WEIGHTS_DIR = DEMO_DIR / "weights"
SEED = 1234


# --- workers ---------------------------------------------------------------------------


def run_workers(target, workers: int, port: int, *args) -> None:
    """Runs `target(rank, *args)` in `workers` single-threaded processes joined by gloo.

    One single-threaded process a core is faster here than threads in one process.
    """
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    mp.spawn(_worker, args=(target, workers, args), nprocs=workers)


def _worker(rank: int, target, workers: int, args) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(SEED + rank)
    dist.init_process_group("gloo", rank=rank, world_size=workers)
    target(rank, *args)
    dist.destroy_process_group()


def share_parameters(module: torch.nn.Module) -> None:
    """Makes every worker start from the parameters of worker 0."""
    for tensor in module.state_dict().values():
        dist.broadcast(tensor, src=0)


def average_gradients(parameters: list[torch.nn.Parameter]) -> None:
    """Replaces every gradient by its mean over the workers, in one message."""
    if dist.get_world_size() == 1:
        return
    flat = torch.cat([p.grad.flatten() for p in parameters])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    offset = 0
    for p in parameters:
        p.grad.copy_(flat[offset : offset + p.numel()].view_as(p))
        offset += p.numel()


# --- schedule --------------------------------------------------------------------------


class Schedule:
    """Learning rate over a budget of wall-clock time: warm-up, flat, linear decay to zero.

    Time spent before a restart counts; worker 0's clock is everyone's clock.
    """

    WARM_UP_STEPS = 100

    def __init__(self, budget_minutes: float, peak: float, decay_from: float = 0.3, spent: float = 0.0):
        self.budget = budget_minutes * 60.0
        self.peak = peak
        self.decay_from = decay_from
        self.spent = spent
        self.last = time.monotonic()
        self.step = 0

    def advance(self) -> float:
        """Counts one step and returns its learning rate."""
        now = time.monotonic()
        self.spent += now - self.last
        self.last = now
        self.step += 1
        clock = torch.tensor([self.spent], dtype=torch.float64)
        dist.broadcast(clock, src=0)
        self.spent = clock.item()
        remaining = max(0.0, 1.0 - self.spent / self.budget)
        decay = min(1.0, remaining / (1.0 - self.decay_from))
        return self.peak * decay * min(1.0, self.step / self.WARM_UP_STEPS)

    @property
    def finished(self) -> bool:
        return self.spent >= self.budget


def optimizer_step(optimizer: torch.optim.Optimizer, rate: float, clip: float = 1.0) -> None:
    """Averages gradients over workers, clips their norm, and applies one update."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    average_gradients(parameters)
    torch.nn.utils.clip_grad_norm_(parameters, clip)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


class Ema:
    """Moving average of a module's trained parameters, with a short memory in the beginning."""

    def __init__(self, module: torch.nn.Module, decay: float):
        self.decay = decay
        self.updates = 0
        self.state = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: torch.nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in module.named_parameters():
            if value.requires_grad:  # what is frozen keeps its bits: a step between equal values turns -0 into 0
                self.state[name].lerp_(value, 1.0 - decay)


# --- files -----------------------------------------------------------------------------


def save_checkpoint(name: str, content: dict) -> None:
    """Writes a checkpoint so that an interrupted write leaves the old one in place."""
    CHECKPOINT_DIR.mkdir(exist_ok=True)
    path = CHECKPOINT_DIR / f"{name}.pt"
    torch.save(content, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def load_checkpoint(name: str) -> dict | None:
    """The checkpoint of that name, or None."""
    path = CHECKPOINT_DIR / f"{name}.pt"
    return torch.load(path, weights_only=True) if path.exists() else None


class CsvLog:
    """A loss log: one row at a time, appended, flushed."""

    def __init__(self, name: str, columns: tuple[str, ...]):
        LOG_DIR.mkdir(exist_ok=True)
        self.path = LOG_DIR / f"{name}.csv"
        if not self.path.exists():
            self._append(columns)

    def write(self, *values) -> None:
        self._append([f"{v:.5g}" if isinstance(v, float) else v for v in values])

    def _append(self, row) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow(row)
