"""Stage 3: renders clips once and stores the spatial latents of their frames.

Two banks: key frames of many clips for the diffusion model, all frames of fewer
clips for the temporal autoencoder.  Latents are posterior means times the latent
factor; held-out combinations are left out.

    python -m train.bank --draws 2 --whole-clips 600
"""

import argparse
from dataclasses import astuple

import numpy as np
import torch

from . import clips, config
from .common import SEED, load_checkpoint, save_checkpoint
from .vae_spatial import LATENT_FACTOR, SpatialVae
from .vae_temporal import TemporalVae

KEY_BANK, WHOLE_BANK = "bank-key", "bank-whole"
CHUNK = 8  # clips encoded together
PROBE_NOISE = 0.3  # of a channel's standard deviation
WEIGHT_EXPONENT = 0.7  # between counting latents evenly (0) and counting squared pixel errors (2)

REVERSED_MOTION = {"right": "left", "left": "right", "up": "down", "down": "up", "grow": "shrink", "shrink": "grow"}


def load_spatial() -> SpatialVae:
    """The trained spatial autoencoder, frozen: as the decoder stage left it, or else the first stage."""
    model = SpatialVae(config.SPATIAL_VAE)
    decoders = load_checkpoint("decoder")
    model.load_state_dict(part(decoders["ema"], "spatial.") if decoders else load_checkpoint("spatial")["ema"])
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def load_temporal() -> TemporalVae:
    """The trained temporal autoencoder, frozen, likewise."""
    model = TemporalVae(config.TEMPORAL_VAE)
    decoders = load_checkpoint("decoder")
    model.load_state_dict(part(decoders["ema"], "temporal.") if decoders else load_checkpoint("temporal")["ema"])
    return model.eval().requires_grad_(False)


def part(state: dict, prefix: str) -> dict:
    """The entries of a state dict under a prefix, without it."""
    return {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}


@torch.no_grad()
def encode_clips(model: SpatialVae, rng: np.random.Generator, specs: list[clips.ClipSpec], frames) -> dict:
    """Latents [N, 4, F, 8, 8] (f16) of clips on random paths, and their specs."""
    latents = torch.empty(len(specs), 4, len(frames), 8, 8, dtype=torch.float16)
    for start in range(0, len(specs), CHUNK):
        chunk = specs[start : start + CHUNK]
        images = np.concatenate([clips.render(spec, clips.random_path(rng, spec), frames)[0] for spec in chunk])
        images = torch.from_numpy(clips.to_model_range(images)).contiguous(memory_format=torch.channels_last)
        mean = model.encode(images)[0] * LATENT_FACTOR
        latents[start : start + len(chunk)] = mean.unflatten(0, (len(chunk), -1)).transpose(1, 2)
    return {"latents": latents, "specs": [list(astuple(spec)) for spec in specs]}


@torch.no_grad()
def channel_weights(model: SpatialVae, latents: torch.Tensor) -> torch.Tensor:
    """How much each latent channel counts in the losses: mean 1, more where noise shows more.

    Noise of the same relative size shows more in one channel than in another; where all
    are used evenly, the weights are near 1.  `latents` are [N, 4, 8, 8].
    """
    scale = latents.std(dim=(0, 2, 3))
    generator = torch.Generator().manual_seed(SEED)
    clean = model.decode(latents / LATENT_FACTOR)
    effect = torch.empty(len(scale))
    for channel in range(len(scale)):
        noisy = latents.clone()
        noise = torch.randn(noisy[:, channel].shape, generator=generator)
        noisy[:, channel] += PROBE_NOISE * scale[channel] * noise
        effect[channel] = (model.decode(noisy / LATENT_FACTOR) - clean).square().mean().sqrt()
    weights = effect**WEIGHT_EXPONENT
    return weights / weights.mean()


def with_reversed(bank: dict) -> tuple[torch.Tensor, list[clips.ClipSpec]]:
    """A key-frame bank together with every clip played backwards, where that is not held out."""
    latents = bank["latents"].float()
    specs = [clips.ClipSpec(*values) for values in bank["specs"]]
    chosen, backwards = [], []
    for index, spec in enumerate(specs):
        motion = REVERSED_MOTION.get(spec.motion)
        if motion and not clips.is_held_out(spec.colour, spec.background, spec.shape, motion):
            chosen.append(index)
            backwards.append(clips.ClipSpec(spec.colour, spec.background, spec.shape, spec.size, motion))
    return torch.cat([latents, latents[chosen].flip(2)]), specs + backwards


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1, help="clips of each combination and size in the key bank")
    parser.add_argument("--whole-clips", type=int, default=600)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = load_spatial()
    pool = clips.combinations(held_out=False)
    if load_checkpoint(WHOLE_BANK) is None:
        rng = np.random.default_rng((SEED, 1))
        specs = [clips.random_spec(rng, pool) for _ in range(args.whole_clips)]
        save_checkpoint(WHOLE_BANK, encode_clips(model, rng, specs, range(clips.NUM_FRAMES)))
    specs = [
        clips.ClipSpec(colour, background, shape, size, motion)
        for colour, background, shape, motion in pool
        for size in clips.SIZES
    ] * args.draws
    key = encode_clips(model, np.random.default_rng((SEED, 2)), specs, clips.KEY_FRAMES)
    values = key["latents"].float()
    key["shift"] = values.mean(dim=(0, 2, 3, 4))
    key["scale"] = values.std(dim=(0, 2, 3, 4))
    key["weights"] = channel_weights(model, values[:: len(values) // 64, :, 2])
    save_checkpoint(KEY_BANK, key)


if __name__ == "__main__":
    main()
