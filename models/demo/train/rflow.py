"""Rectified flow as Open-Sora v1.2 defines it: noise at t = 1000, data at t = 0.

A noisy latent is (1 - t/1000) x0 + (t/1000) noise; the network predicts the
velocity x0 - noise; sampling adds velocity times the step in t/1000.
"""

import math

import torch

TOP = 1000.0


def transform(t: torch.Tensor, ratio: float) -> torch.Tensor:
    """Moves timesteps in [0, 1000] towards noise, as larger videos need."""
    unit = t / TOP
    return TOP * ratio * unit / (1 + (ratio - 1) * unit)


def transform_ratio(sampling: dict) -> float:
    """The ratio for a video's size: area over the base, and latent frames."""
    area = sampling["width"] * sampling["height"] / sampling["timestep_transform_base_resolution"]
    return math.sqrt(area) * math.sqrt(sampling["num_frames"] // 17 * 5)


def timesteps(sampling: dict) -> torch.Tensor:
    """The sampling timesteps, from noise to data."""
    count = sampling["num_sampling_steps"]
    t = torch.round((1 - torch.arange(count) / count) * TOP)
    if sampling["use_timestep_transform"]:
        t = transform(t, transform_ratio(sampling))
    return t.clamp_max(TOP)


def add_noise(x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The noisy latent of each row at its timestep."""
    unit = (t / TOP).view(-1, *[1] * (x0.dim() - 1))
    return (1 - unit) * x0 + unit * noise


@torch.no_grad()
def sample(model, noise: torch.Tensor, features: torch.Tensor, mask: torch.Tensor, sampling: dict) -> torch.Tensor:
    """Denoises [B, C, T, H, W] with guidance.

    `features` [B, L, D] and `mask` [B, L] are the captions; the unconditional half
    uses the null caption with the same mask.
    """
    z = noise
    null = model.y_embedder.y_embedding[: features.shape[1]].expand_as(features)
    captions = torch.cat([features, null])
    masks = torch.cat([mask, mask])
    fps = torch.full((2 * len(z),), float(sampling["fps"]))
    size_px = (sampling["height"], sampling["width"])
    steps = timesteps(sampling)
    for t, following in zip(steps, [*steps[1:], torch.tensor(0.0)]):
        velocity = model(torch.cat([z, z]), t.expand(2 * len(z)), captions, masks, fps, size_px)
        conditional, unconditional = velocity.chunk(2)
        guided = unconditional + sampling["cfg_scale"] * (conditional - unconditional)
        z = z + guided * (t - following) / TOP
    return z
