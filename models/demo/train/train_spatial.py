"""Stage 1: trains the spatial autoencoder on single frames.

The loss counts pixels in and around the shape more than the flat background.  Every
latent channel is held at mean 0 and variance 1 over a batch, and the decoder sees
latents with noise: so all channels share the work (a KL term leaves some unused),
and the diffusion model's small errors do not show.

    python -m train.train_spatial --minutes 28
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
MOMENT_WEIGHT = 0.1  # how firmly each channel is held at mean 0 and variance 1
MAX_NOISE = 0.25  # standard deviation that the decoder learns to live with
LOG_VARIANCE, LOG_VARIANCE_WEIGHT = -4.0, 1e-3  # what the posterior is pulled to; nothing trains on its samples
EDGE_WEIGHT, INSIDE_WEIGHT = 6.0, 2.0  # added to 1 for pixels near the outline, and inside
EDGE_PX = 2.5
EMA_DECAY = 0.998


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


def with_noise(latents: torch.Tensor) -> torch.Tensor:
    """Latents with noise of a random level, another for each sample."""
    level = MAX_NOISE * torch.rand(len(latents), 1, 1, 1)
    return latents + level * torch.randn_like(latents)


def moment_loss(latents: torch.Tensor) -> torch.Tensor:
    """KL divergence of each channel's mean and variance over the batch from a standard normal's."""
    variance, mean = torch.var_mean(latents, dim=(0, 2, 3))
    return 0.5 * (mean.square() + variance - 1.0 - variance.log()).mean()


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
    log = CsvLog("spatial", ("step", "minutes", "loss", "moment_loss", "psnr_db")) if rank == 0 else None
    rng = np.random.default_rng((SEED, rank, schedule.step))

    while not schedule.finished:
        rate = schedule.advance()
        images, weight = random_frames(rng, BATCH)
        mean, log_variance = model.encode(images.to(memory_format=torch.channels_last))
        reconstruction = reconstruction_loss(model.decode(with_noise(mean)), images, weight)
        moments = moment_loss(mean)
        posterior = (log_variance - LOG_VARIANCE).square().mean()
        (reconstruction + MOMENT_WEIGHT * moments + LOG_VARIANCE_WEIGHT * posterior).backward()
        optimizer_step(optimizer, rate)
        ema.update(model)

        if rank == 0 and (schedule.step % 100 == 0 or schedule.finished):
            smooth = SpatialVae(config.SPATIAL_VAE)
            smooth.load_state_dict(ema.state)
            psnr = peak_signal_to_noise(smooth, seed=SEED)
            log.write(schedule.step, schedule.spent / 60, reconstruction.item(), moments.item(), psnr)
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
