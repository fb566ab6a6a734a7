"""Stage 4: trains the temporal autoencoder between spatial latents.

What the diffusion model learns are the spatial latents of the key frames 0, 4, 8,
12 and 16.  So the encoder learns by regression to pick them out of 17 latents, and
the decoder to fill in the frames between, from key latents with some noise on them
(the diffusion model's errors).  The decoder's loss counts latents and, through the
frozen spatial decoder, pixels.

    python -m train.train_temporal --minutes 20
"""

import argparse

import torch
import torch.nn.functional as F

from . import bank, clips, config
from .common import (
    SEED,
    CsvLog,
    Ema,
    Schedule,
    load_checkpoint,
    optimizer_step,
    run_workers,
    save_checkpoint,
)
from .vae_spatial import LATENT_FACTOR
from .vae_temporal import TemporalVae

NAME = "temporal"
BATCH = 4  # clips
ENCODER_EVERY = 4  # steps; its task is easy
PIXELS_EVERY = 2  # steps, for the sake of speed
PIXEL_FRAMES = 6  # frames that are then compared as pixels too
PEAK_RATE = 2e-3
EMA_DECAY = 0.998
MAX_NOISE = 0.25  # of a latent's standard deviation
PIXEL_WEIGHT = 1.0
LOG_VARIANCE = -8.0  # what the encoder's posterior is pulled to


def key_frames(latents: torch.Tensor) -> torch.Tensor:
    return latents[:, :, list(clips.KEY_FRAMES)]


def worker(rank: int, minutes: float) -> None:
    spatial = bank.load_spatial()
    latents = load_checkpoint(bank.WHOLE_BANK)["latents"].float()
    stored = load_checkpoint(bank.KEY_BANK)
    scale, weights = (stored[name].view(4, 1, 1, 1) for name in ("scale", "weights"))
    latents, unseen = latents[:-48], latents[-48:]
    model = TemporalVae(config.TEMPORAL_VAE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=1e-4, betas=(0.9, 0.99))
    schedule = Schedule(minutes, PEAK_RATE)
    ema = Ema(model, EMA_DECAY)
    saved = load_checkpoint(NAME)
    if saved:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        ema.state, ema.updates = saved["ema"], saved["step"]
        schedule.step, schedule.spent = saved["step"], saved["spent"]
    log = CsvLog(NAME, ("step", "minutes", "latent_loss", "pixel_loss", "encoder_loss", "psnr_db"))
    generator = torch.Generator().manual_seed(SEED + schedule.step)

    while not schedule.finished:
        rate = schedule.advance()
        target = latents[torch.randint(len(latents), (BATCH,), generator=generator)]
        keys = key_frames(target)
        level = MAX_NOISE * torch.rand(BATCH, 1, 1, 1, 1, generator=generator)
        noisy = keys + level * scale * torch.randn(keys.shape, generator=generator)
        rebuilt = model.decode(noisy, clips.NUM_FRAMES)
        latent_loss = (weights * ((rebuilt - target) / scale).square()).mean()

        loss = latent_loss
        if schedule.step % PIXELS_EVERY == 0:
            chosen = torch.randint(BATCH * clips.NUM_FRAMES, (PIXEL_FRAMES,), generator=generator)
            pixel_loss = compare_pixels(spatial, rebuilt, target, chosen)
            loss = loss + PIXEL_WEIGHT * pixel_loss
        if schedule.step % ENCODER_EVERY == 0:
            mean, log_variance = model.encode(target)
            encoder_loss = ((mean - keys) / scale).square().mean()
            loss = loss + encoder_loss + 1e-3 * (log_variance - LOG_VARIANCE).square().mean()
        loss.backward()
        optimizer_step(optimizer, rate)
        ema.update(model)

        if schedule.step % 100 == 0 or schedule.finished:
            smooth = TemporalVae(config.TEMPORAL_VAE)
            smooth.load_state_dict(ema.state)
            psnr = peak_signal_to_noise(smooth, spatial, unseen)
            log.write(
                schedule.step, schedule.spent / 60, latent_loss.item(), pixel_loss.item(), encoder_loss.item(), psnr
            )
            save_checkpoint(NAME, {
                "model": model.state_dict(), "ema": ema.state, "optimizer": optimizer.state_dict(),
                "step": schedule.step, "spent": schedule.spent,
            })


def compare_pixels(spatial, rebuilt: torch.Tensor, target: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Error of the chosen frames after the spatial decoder."""

    def frames(latents):
        return latents.transpose(1, 2).flatten(0, 1)[chosen] / LATENT_FACTOR

    with torch.no_grad():
        wanted = spatial.decode(frames(target))
    return F.smooth_l1_loss(spatial.decode(frames(rebuilt)), wanted, beta=0.2)


@torch.no_grad()
def peak_signal_to_noise(model: TemporalVae, spatial, latents: torch.Tensor) -> float:
    """PSNR in dB of frames between key frames, against the spatial decoder alone."""
    rebuilt = model.decode(key_frames(latents), clips.NUM_FRAMES)
    frames = list(range(2, clips.NUM_FRAMES, 4))

    def pixels(z):
        return spatial.decode(z[:, :, frames].transpose(1, 2).flatten(0, 1) / LATENT_FACTOR).clamp(-1, 1)

    error = ((pixels(rebuilt) - pixels(latents)) / 2).square().mean(dim=(1, 2, 3))
    return (-10 * error.clamp_min(1e-8).log10()).mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    args = parser.parse_args()
    run_workers(worker, 1, 29503, args.minutes)


if __name__ == "__main__":
    main()
