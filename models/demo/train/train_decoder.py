"""Stage 5: trains both decoders together, from key-frame latents to pixels.

The encoders stay as they are, so the latents that the diffusion model learns do not
change and both can be trained at the same time.  Half of the clips start from the
latents of their key frames, with some noise, as the diffusion model's errors will be;
half from what the temporal encoder makes of the clip, as when a video is encoded.
Some frames skip the temporal autoencoder, so that the spatial one stays good alone.
Starts from the stages before, or from the exported decoders after `train.restore`.

    python -m train.train_decoder --minutes 86
"""

import argparse

import numpy as np
import torch

from . import bank, clips
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
from .muon import Both, Muon
from .vae_spatial import LATENT_FACTOR, SpatialVae
from .vae_temporal import TemporalVae

NAME = "decoder"
BATCH = 2  # clips; even
PIXEL_FRAMES = 14  # frames of a step that pass both decoders
SINGLE_FRAMES = 2  # and that pass the spatial decoder alone
PEAK_RATE = 3e-4
MUON_ROWS = 12  # output channels from which on Muon trains a matrix; to latents and pixels there are fewer
EMA_DECAY = 0.995
MAX_NOISE = 0.1  # of a latent's standard deviation
LOSS_SCALE = 0.1  # keeps most gradients within what `optimizer_step` clips to
ERROR_FLOOR = 1e-5  # 50 dB: better than that need not be


def random_clips(rng: np.random.Generator, pool, count: int) -> torch.Tensor:
    """Images [N, 17, 3, 64, 64] of random clips."""
    specs = [clips.random_spec(rng, pool) for _ in range(count)]
    pixels = np.stack([clips.render(spec, clips.random_path(rng, spec))[0] for spec in specs])
    return torch.from_numpy(clips.to_model_range(pixels))


def frame_errors(rebuilt: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error of each frame [N], of a range of 1."""
    return ((rebuilt - target) / 2).square().mean(dim=(1, 2, 3))


def log_error_loss(rebuilt: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean over frames of the squared error's logarithm: PSNR, but for sign and factor."""
    return LOSS_SCALE * (frame_errors(rebuilt, target) + ERROR_FLOOR).log().mean()


@torch.no_grad()
def encode(spatial: SpatialVae, temporal: TemporalVae, images: torch.Tensor, scale: torch.Tensor):
    """Latents of images [N, 17, 3, 64, 64], by the frozen encoders.

    Returns the spatial latents [N, 17, 4, 8, 8] (times the latent factor) and what the temporal
    decoder starts from [N, 4, 5, 8, 8]: noisy key latents of the first half, temporal latents of the other.
    """
    count = len(images)
    frames = spatial.encode(images.flatten(0, 1).contiguous(memory_format=torch.channels_last))[0] * LATENT_FACTOR
    frames = frames.unflatten(0, (count, -1))
    picked, whole = frames.transpose(1, 2).chunk(2)
    keys = picked[:, :, list(clips.KEY_FRAMES)]
    keys = keys + MAX_NOISE * torch.rand(len(keys), 1, 1, 1, 1) * scale * torch.randn_like(keys)
    return frames, torch.cat([keys, temporal.encode(whole)[0]])


def make_optimizer(trained: torch.nn.Module) -> Both:
    """Muon for convolutions and matrices, AdamW for norms, biases and the layers that end in latents or pixels."""
    wide = [p for p in trained.parameters() if p.dim() >= 2 and len(p) >= MUON_ROWS]
    taken = {id(p) for p in wide}
    others = [p for p in trained.parameters() if id(p) not in taken]
    return Both(Muon(wide, lr=PEAK_RATE), torch.optim.AdamW(others, lr=PEAK_RATE, weight_decay=0.0, betas=(0.9, 0.99)))


def worker(rank: int, minutes: float) -> None:
    spatial, temporal = bank.load_spatial(), bank.load_temporal()
    trained = torch.nn.ModuleList(
        [spatial.decoder, spatial.post_quant_conv, temporal.decoder, temporal.post_quant_conv]
    ).requires_grad_(True)
    optimizer = make_optimizer(trained)
    schedule = Schedule(minutes, PEAK_RATE)
    both = torch.nn.ModuleDict({"spatial": spatial, "temporal": temporal})
    ema = Ema(both, EMA_DECAY)
    saved = load_checkpoint(NAME)
    if saved:
        both.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        ema.state, ema.updates = saved["ema"], saved["step"]
        schedule.step, schedule.spent = saved["step"], saved["spent"]
    scale = load_checkpoint(bank.KEY_BANK)["scale"].view(4, 1, 1, 1)
    log = CsvLog(NAME, ("step", "minutes", "loss", "psnr_db"))
    pool = clips.combinations(held_out=False) + clips.combinations(held_out=True)
    rng = np.random.default_rng((SEED, 7, schedule.step))
    totals = torch.zeros(2)

    while not schedule.finished:
        rate = schedule.advance()
        images = random_clips(rng, pool, BATCH)
        frames, keys = encode(spatial, temporal, images, scale)
        through_time, alone = (torch.randperm(BATCH * clips.NUM_FRAMES)[:n] for n in (PIXEL_FRAMES, SINGLE_FRAMES))
        with torch.autocast("cpu", torch.bfloat16):
            latents = temporal.decode(keys, clips.NUM_FRAMES).transpose(1, 2).flatten(0, 1)[through_time]
            latents = torch.cat([latents, frames.flatten(0, 1)[alone]]) / LATENT_FACTOR
            rebuilt = spatial.decode(latents.contiguous(memory_format=torch.channels_last)).float()
        chosen = torch.cat([through_time, alone])
        target = images.flatten(0, 1)[chosen]
        loss = log_error_loss(rebuilt, target)
        loss.backward()
        optimizer_step(optimizer, rate)
        ema.update(both)

        error = frame_errors(rebuilt.detach().clamp(-1, 1), target)
        totals += torch.stack([loss.detach(), -10 * error.log10().mean()])
        if schedule.step % 50 == 0 or schedule.finished:
            log.write(schedule.step, schedule.spent / 60, *(totals / (schedule.step % 50 or 50)).tolist())
            totals.zero_()
            save_checkpoint(NAME, {
                "model": both.state_dict(), "ema": ema.state, "optimizer": optimizer.state_dict(),
                "step": schedule.step, "spent": schedule.spent,
            })


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=86.0)
    args = parser.parse_args()
    run_workers(worker, 1, 29505, args.minutes)


if __name__ == "__main__":
    main()
