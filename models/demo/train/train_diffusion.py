"""Stage 6: trains STDiT3 on the key-frame latents of the bank.

A linear head, used in training only, names each latent frame's index from its
tokens.  STDiT3 knows frames by their rotary differences alone; without that task
it does not learn which end of a clip comes first, and motion goes backwards half
of the time.

    python -m train.train_diffusion --minutes 80
"""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from . import bank, captions, config, rflow, tokenizer
from .common import (
    SEED,
    CsvLog,
    Ema,
    Schedule,
    load_checkpoint,
    optimizer_step,
    run_workers,
    save_checkpoint,
    share_parameters,
)
from .muon import Both, Muon
from .stdit3 import Stdit3, layer_norm
from .train_text import encode_batch, load_trained

NAME = "diffusion"
PEAK_RATE = 1.5e-3
EMA_DECAY = 0.998
CAPTION_DROPOUT = 0.1
FRAME_HEAD_AFTER_PAIR = 2
FRAME_HEAD_WEIGHT = 0.2
TRANSFORM_SHARE, TRANSFORM_RATIO = 2 / 3, 3.0  # timesteps moved towards noise


class FrameIndexHead(nn.Module):
    """Names the index of a latent frame from the mean of its tokens; thrown away after training."""

    def __init__(self, width: int, frames: int):
        super().__init__()
        self.linear = nn.Linear(width, frames)

    def loss(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy and accuracy over tokens [B, T, S, C]."""
        logits = self.linear(layer_norm(tokens.mean(dim=2))).flatten(0, 1)
        index = torch.arange(tokens.shape[1]).repeat(tokens.shape[0])
        return F.cross_entropy(logits, index), (logits.argmax(-1) == index).float().mean()


class Batches:
    """Random training samples: normalised latents, captions' features and masks."""

    def __init__(self, rng: np.random.Generator):
        stored = load_checkpoint(bank.KEY_BANK)
        latents, self.specs = bank.with_reversed(stored)
        shift, scale = stored["shift"].view(4, 1, 1, 1), stored["scale"].view(4, 1, 1, 1)
        self.latents = (latents - shift) / scale
        self.channel_weights = stored["weights"].view(4, 1, 1, 1)
        self.rng = rng
        self.tokenizer = tokenizer.build()
        self.encoder = load_trained()

    def next(self, count: int):
        chosen = self.rng.integers(len(self.specs), size=count)
        texts = [captions.caption(self.rng, self.specs[i])[0] for i in chosen]
        ids, mask = encode_batch(self.tokenizer, texts)
        return self.latents[torch.from_numpy(chosen)], self.encoder(ids, mask), mask


def random_timesteps(count: int) -> torch.Tensor:
    t = torch.rand(count) * rflow.TOP
    return torch.where(torch.rand(count) < TRANSFORM_SHARE, rflow.transform(t, TRANSFORM_RATIO), t)


def make_optimizer(model: Stdit3, head: FrameIndexHead) -> Both:
    """Muon for the matrices of the blocks, AdamW for all else."""
    inside = [p for name, p in model.named_parameters() if "_blocks." in name and name.endswith("weight") and p.dim() == 2]
    taken = {id(p) for p in inside}
    outside = [p for p in (*model.parameters(), *head.parameters()) if id(p) not in taken]
    adam = torch.optim.AdamW(outside, lr=PEAK_RATE, weight_decay=0.0, betas=(0.9, 0.99))
    return Both(Muon(inside, lr=PEAK_RATE), adam)


def worker(rank: int, minutes: float, batch: int) -> None:
    model = Stdit3(config.STDIT3)
    model.reset_parameters()
    head = FrameIndexHead(config.STDIT3["hidden_size"], 5)
    optimizer = make_optimizer(model, head)
    schedule = Schedule(minutes, PEAK_RATE)
    ema = Ema(model, EMA_DECAY)
    saved = load_checkpoint(NAME)
    if saved:
        model.load_state_dict(saved["model"])
        head.load_state_dict(saved["head"])
        optimizer.load_state_dict(saved["optimizer"])
        ema.state, ema.updates = saved["ema"], saved["step"]
        schedule.step, schedule.spent = saved["step"], saved["spent"]
    share_parameters(model)
    share_parameters(head)
    batches = Batches(np.random.default_rng((SEED, rank, schedule.step)))
    log = CsvLog(NAME, ("step", "minutes", "loss", "frame_head_loss", "frame_head_accuracy")) if rank == 0 else None
    fps = torch.full((batch,), float(config.SAMPLING["fps"]))
    size_px = (config.SAMPLING["height"], config.SAMPLING["width"])
    totals = torch.zeros(3)

    while not schedule.finished:
        rate = schedule.advance()
        x0, features, mask = batches.next(batch)
        noise = torch.randn_like(x0)
        t = random_timesteps(batch)
        null = model.y_embedder.y_embedding[: features.shape[1]].expand_as(features)
        dropped = torch.rand(batch, 1, 1) < CAPTION_DROPOUT
        velocity, tokens = model(
            rflow.add_noise(x0, noise, t), t, torch.where(dropped, null, features), mask, fps, size_px,
            tap=FRAME_HEAD_AFTER_PAIR,
        )
        loss = (batches.channel_weights * (velocity - (x0 - noise)).square()).mean()
        frame_loss, frame_accuracy = head.loss(tokens)
        (loss + FRAME_HEAD_WEIGHT * frame_loss).backward()
        optimizer_step(optimizer, rate)
        ema.update(model)
        totals += torch.stack([loss.detach(), frame_loss.detach(), frame_accuracy])

        if schedule.step % 100 == 0 or schedule.finished:
            if rank == 0:
                log.write(schedule.step, schedule.spent / 60, *(totals / (schedule.step % 100 or 100)).tolist())
                save_checkpoint(NAME, {
                    "model": model.state_dict(), "head": head.state_dict(), "ema": ema.state,
                    "optimizer": optimizer.state_dict(), "step": schedule.step, "spent": schedule.spent,
                })
            totals.zero_()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=80.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16, help="clips in each worker")
    args = parser.parse_args()
    run_workers(worker, args.workers, 29504, args.minutes, args.batch)


if __name__ == "__main__":
    main()
