"""Stage 5: trains both decoders together, from key-frame latents to pixels.

The encoders stay as they are, so the latents that the diffusion model learns do not
change and both can be trained at the same time.  Key latents get some noise, as the
diffusion model's errors will; the loss is the spatial stage's, on true frames.

    python -m train.train_decoder --minutes 40
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
from .train_spatial import pixel_weights, reconstruction_loss
from .vae_spatial import LATENT_FACTOR

NAME = "decoder"
BATCH = 2  # clips
PIXEL_FRAMES = 12  # frames of a step that are decoded
PEAK_RATE = 4e-4
EMA_DECAY = 0.995
MAX_NOISE = 0.1  # of a latent's standard deviation


def random_clips(rng: np.random.Generator, pool, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [N, 17, 3, 64, 64] and pixel weights [N, 17, 1, 64, 64] of random clips."""
    images, weights = [], []
    for _ in range(count):
        spec = clips.random_spec(rng, pool)
        pixels, distance = clips.render(spec, clips.random_path(rng, spec))
        images.append(clips.to_model_range(pixels))
        weights.append(pixel_weights(distance))
    return torch.from_numpy(np.stack(images)), torch.stack(weights)


def worker(rank: int, minutes: float) -> None:
    spatial, temporal = bank.load_spatial(), bank.load_temporal()
    trained = torch.nn.ModuleList(
        [spatial.decoder, spatial.post_quant_conv, temporal.decoder, temporal.post_quant_conv]
    ).requires_grad_(True)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=PEAK_RATE, weight_decay=1e-4, betas=(0.9, 0.99))
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
        images, weight = random_clips(rng, pool, BATCH)
        with torch.no_grad():
            keys = spatial.encode(images[:, list(clips.KEY_FRAMES)].flatten(0, 1))[0] * LATENT_FACTOR
            keys = keys.unflatten(0, (BATCH, -1)).transpose(1, 2)
            keys += MAX_NOISE * torch.rand(BATCH, 1, 1, 1, 1) * scale * torch.randn_like(keys)
        latents = temporal.decode(keys, clips.NUM_FRAMES).transpose(1, 2).flatten(0, 1)
        chosen = torch.randperm(len(latents))[:PIXEL_FRAMES]
        target = images.flatten(0, 1)[chosen]
        rebuilt = spatial.decode(latents[chosen] / LATENT_FACTOR)
        loss = reconstruction_loss(rebuilt, target, weight.flatten(0, 1)[chosen])
        loss.backward()
        optimizer_step(optimizer, rate)
        ema.update(both)

        error = ((rebuilt.detach().clamp(-1, 1) - target) / 2).square().mean(dim=(1, 2, 3))
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
    parser.add_argument("--minutes", type=float, default=25.0)
    args = parser.parse_args()
    run_workers(worker, 1, 29505, args.minutes)


if __name__ == "__main__":
    main()
