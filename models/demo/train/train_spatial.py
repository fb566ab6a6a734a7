"""Stage 1: trains the spatial autoencoder on single frames.

The loss counts pixels in and around the shape more than the flat background, and
the KL term keeps the latent smooth: the decoder always sees a noisy latent, so
small errors of the diffusion model do not show.

    python -m train.train_spatial --minutes 35
"""

import argparse

import numpy as np
import torch

from . import clips, config
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
from .vae_spatial import SpatialVae

NAME = "spatial"
BATCH = 8  # frames, in each worker
PEAK_RATE = 2e-3
KL_WEIGHT = 3e-4
EDGE_WEIGHT, INSIDE_WEIGHT = 6.0, 2.0  # added to 1 for pixels near the outline, and inside
EDGE_PX = 2.5
EMA_DECAY = 0.998
MIN_LOG_VARIANCE = -3.5  # the decoder never sees less noise than this


def random_frames(rng: np.random.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random frames of random clips: images [N, 3, 64, 64] and pixel weights [N, 1, 64, 64]."""
    pool = clips.combinations(held_out=False) + clips.combinations(held_out=True)
    images, weights = [], []
    for _ in range(count):
        spec = clips.random_spec(rng, pool)
        path = clips.random_path(rng, spec)
        pixels, distance = clips.render(spec, path, [rng.integers(clips.NUM_FRAMES)])
        images.append(clips.to_model_range(pixels))
        weights.append(pixel_weights(distance))
    return torch.from_numpy(np.concatenate(images)), torch.cat(weights)


def pixel_weights(distance: np.ndarray) -> torch.Tensor:
    """Weights [F, 1, H, W], mean 1 in each frame, from distances [F, H, W] to the outline."""
    weight = 1.0 + EDGE_WEIGHT * (np.abs(distance) < EDGE_PX) + INSIDE_WEIGHT * (distance < 0)
    weight = torch.from_numpy(weight).float()[:, None]
    return weight / weight.mean(dim=(2, 3), keepdim=True)


def add_posterior_noise(mean: torch.Tensor, log_variance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A sample of the posterior, and its log variance, which has a floor."""
    log_variance = log_variance.clamp_min(MIN_LOG_VARIANCE)
    return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean), log_variance


def reconstruction_loss(rebuilt: torch.Tensor, images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted absolute plus squared error."""
    error = rebuilt - images
    return (weight * (error.abs() + error.square())).mean()


def peak_signal_to_noise(model: SpatialVae, seed: int, count: int = 64) -> float:
    """PSNR in dB of reconstructions from posterior means, clamped as on output."""
    images, _ = random_frames(np.random.default_rng(seed), count)
    with torch.no_grad():
        rebuilt = model.decode(model.encode(images)[0]).clamp(-1, 1)
    error = ((rebuilt - images) / 2).square().mean(dim=(1, 2, 3))
    return (-10 * error.log10()).mean().item()


def worker(rank: int, minutes: float) -> None:
    model = SpatialVae(config.SPATIAL_VAE).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=1e-4, betas=(0.9, 0.99))
    schedule = Schedule(minutes, PEAK_RATE)
    ema = Ema(model, EMA_DECAY)
    saved = load_checkpoint(NAME)
    if saved:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        ema.state, ema.updates = saved["ema"], saved["step"]
        schedule.step, schedule.spent = saved["step"], saved["spent"]
    share_parameters(model)
    log = CsvLog("spatial", ("step", "minutes", "loss", "kl", "psnr_db")) if rank == 0 else None
    rng = np.random.default_rng((SEED, rank, schedule.step))

    while not schedule.finished:
        rate = schedule.advance()
        images, weight = random_frames(rng, BATCH)
        mean, log_variance = model.encode(images.to(memory_format=torch.channels_last))
        z, log_variance = add_posterior_noise(mean, log_variance)
        reconstruction = reconstruction_loss(model.decode(z), images, weight)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean()
        (reconstruction + KL_WEIGHT * kl).backward()
        optimizer_step(optimizer, rate)
        ema.update(model)

        if rank == 0 and (schedule.step % 100 == 0 or schedule.finished):
            smooth = SpatialVae(config.SPATIAL_VAE)
            smooth.load_state_dict(ema.state)
            psnr = peak_signal_to_noise(smooth, seed=SEED)
            log.write(schedule.step, schedule.spent / 60, reconstruction.item(), kl.item(), psnr)
            save_checkpoint(NAME, {
                "model": model.state_dict(), "ema": ema.state, "optimizer": optimizer.state_dict(),
                "step": schedule.step, "spent": schedule.spent,
            })


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=35.0)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    run_workers(worker, args.workers, 29501, args.minutes)


if __name__ == "__main__":
    main()
