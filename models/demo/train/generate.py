"""The exported model folder run in PyTorch: prompts in, frames out."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from . import clips, rflow
from .common import WEIGHTS_DIR
from .stdit3 import Stdit3
from .t5 import T5Encoder
from .train_text import encode_batch
from .vae_spatial import LATENT_FACTOR, SpatialVae
from .vae_temporal import TemporalVae


class DemoModel:
    """All networks of a model folder, in f32 from its f16 weights."""

    def __init__(self, folder: Path = WEIGHTS_DIR):
        self.sampling = json.loads((folder / "generation_config.json").read_text())
        self.tokenizer = Tokenizer.from_file(str(folder / "t5/tokenizer.json"))
        self.t5 = self._load(folder / "t5", T5Encoder)
        self.stdit3 = self._load(folder / "stdit3", Stdit3)

        vae = json.loads((folder / "vae/config.json").read_text())
        tensors = {name: t.float() for name, t in load_file(folder / "vae/model.safetensors").items()}
        self.shift, self.scale = tensors.pop("shift"), tensors.pop("scale")
        self.spatial = self._fill(SpatialVae(vae["vae_2d"]), tensors, "spatial_vae.module.")
        self.temporal = self._fill(TemporalVae(vae["vae_temporal"]), tensors, "temporal_vae.")

    @staticmethod
    def _fill(module, tensors, prefix=""):
        module.load_state_dict({n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)})
        return module.eval().requires_grad_(False)

    @classmethod
    def _load(cls, folder: Path, module_type):
        module = module_type(json.loads((folder / "config.json").read_text()))
        return cls._fill(module, {n: t.float() for n, t in load_file(folder / "model.safetensors").items()})

    def encode_prompts(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Features and mask of prompts, padded to the longest."""
        ids, mask = encode_batch(self.tokenizer, [prompt.lower().strip() for prompt in prompts])
        return self.t5(ids, mask), mask

    def noise(self, count: int, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        frames = len(clips.KEY_FRAMES)
        height, width = self.sampling["height"] // 8, self.sampling["width"] // 8
        return torch.randn(count, 4, frames, height, width, generator=generator)

    @torch.no_grad()
    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Latents [B, 4, 5, h, w] to videos [B, 3, 17, 8h, 8w], not clamped."""
        frames = self.sampling["num_frames"]
        latents = self.temporal.decode(z * self.scale + self.shift, frames) / LATENT_FACTOR
        return self.spatial.decode(latents.transpose(1, 2).flatten(0, 1)).unflatten(0, (-1, frames)).transpose(1, 2)

    @torch.no_grad()
    def encode(self, video: torch.Tensor) -> torch.Tensor:
        """Videos [B, 3, 17, H, W] to latents, from posterior means."""
        images = video.transpose(1, 2).flatten(0, 1)
        latents = (self.spatial.encode(images)[0] * LATENT_FACTOR).unflatten(0, (len(video), -1)).transpose(1, 2)
        return (self.temporal.encode(latents)[0] - self.shift) / self.scale

    def generate(self, prompts: list[str], seed: int) -> np.ndarray:
        """u8 frames [B, 17, H, W, 3] of prompts."""
        features, mask = self.encode_prompts(prompts)
        z = rflow.sample(self.stdit3, self.noise(len(prompts), seed), features, mask, self.sampling)
        return clips.to_uint8(self.decode(z).transpose(1, 2).numpy())
