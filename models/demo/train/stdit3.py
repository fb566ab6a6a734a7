"""STDiT3, the diffusion transformer of Open-Sora v1.2, under its parameter names.

Pairs of blocks take turns over the tokens of one frame (spatial) and over one
position in all frames (temporal, with rotary positions).  Each block attends to
itself, then to the caption, then applies an MLP, modulated by the timestep.
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

NORM_EPS = 1e-6


def modulate(x, shift, scale):
    return x * (1 + scale) + shift


def layer_norm(x):
    """Layer norm without parameters."""
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)


class HeadNorm(nn.Module):
    """Root-mean-square norm of each head's query or key."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_EPS)


class Rope(nn.Module):
    """Rotary positions over neighbouring pairs of channels."""

    def __init__(self, head_width: int):
        super().__init__()
        self.register_buffer("freqs", 10000.0 ** (-torch.arange(0, head_width, 2) / head_width))

    def forward(self, x):
        """Rotates [..., L, D] by the position along L."""
        angle = torch.arange(x.shape[-2])[:, None] * self.freqs
        even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = angle.cos(), angle.sin()
        return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2)


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = HeadNorm(width // heads)
        self.k_norm = HeadNorm(width // heads)
        self.proj = nn.Linear(width, width)

    def forward(self, x, rope: Rope | None):
        """Attention over the second axis of [N, L, C]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = rope(q), rope(k)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_linear = nn.Linear(width, width)
        self.kv_linear = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x, y, text_bias):
        """Tokens [B, N, C] attend to caption tokens [B, L, C]; the bias hides padding."""
        q = self.q_linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv_linear(y).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=text_bias)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers around a tanh GELU."""

    def __init__(self, width_in: int, hidden: int, width_out: int):
        super().__init__()
        self.fc1 = nn.Linear(width_in, hidden)
        self.fc2 = nn.Linear(hidden, width_out)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Stdit3Block(nn.Module):
    """One spatial or temporal block; tokens are [B, T, S, C]."""

    def __init__(self, config: dict, temporal: bool):
        super().__init__()
        width, heads = config["hidden_size"], config["num_heads"]
        self.temporal = temporal
        self.attn = SelfAttention(width, heads)
        self.cross_attn = CrossAttention(width, heads)
        self.mlp = Mlp(width, int(width * config["mlp_ratio"]), width)
        self.scale_shift_table = nn.Parameter(torch.randn(6, width) / width**0.5)

    def forward(self, x, y, text_bias, t_mlp, rope):
        table = (self.scale_shift_table + t_mlp)[:, :, None, None]
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = table.unbind(1)
        mixed = modulate(layer_norm(x), shift_a, scale_a)
        if self.temporal:
            mixed = mixed.transpose(1, 2)
        mixed = self.attn(mixed.flatten(0, 1), rope if self.temporal else None).view(mixed.shape)
        if self.temporal:
            mixed = mixed.transpose(1, 2)
        x = x + gate_a * mixed
        x = x + self.cross_attn(x.flatten(1, 2), y, text_bias).view(x.shape)
        return x + gate_m * self.mlp(modulate(layer_norm(x), shift_m, scale_m))


class ScalarEmbedder(nn.Module):
    """Sines and cosines of a number, then a small MLP."""

    FREQUENCIES = 128

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2 * self.FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, value):
        steps = torch.arange(self.FREQUENCIES) / self.FREQUENCIES
        angle = value[:, None] * torch.exp(-math.log(10000.0) * steps)
        return self.mlp(torch.cat([angle.cos(), angle.sin()], dim=-1))


class CaptionEmbedder(nn.Module):
    """Projects text features, and holds the null caption that guidance compares with."""

    def __init__(self, config: dict):
        super().__init__()
        channels, width = config["caption_channels"], config["hidden_size"]
        self.y_proj = Mlp(channels, width, width)
        self.y_embedding = nn.Parameter(torch.zeros(config["model_max_length"], channels))

    def forward(self, features):
        return self.y_proj(features)


def position_embedding(height: int, width: int, channels: int, scale: float) -> torch.Tensor:
    """Sine-cosine positions [H*W, C]: the first half tells the column, the second the row."""
    half = channels // 2
    frequency = 10000.0 ** (-torch.arange(0, half, 2) / half)
    base = round((height * width) ** 0.5)

    def waves(count: int) -> torch.Tensor:
        angle = (torch.arange(count) / scale * base / count)[:, None] * frequency
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    column = waves(width)[None].expand(height, -1, -1)
    row = waves(height)[:, None].expand(-1, width, -1)
    return torch.cat([column, row], dim=-1).flatten(0, 1)


class FinalLayer(nn.Module):
    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.randn(2, width) / width**0.5)
        self.linear = nn.Linear(width, outputs)

    def forward(self, x, t):
        shift, scale = (self.scale_shift_table + t[:, None])[:, :, None, None].unbind(1)
        return self.linear(modulate(layer_norm(x), shift, scale))


class Stdit3(nn.Module):
    """Latents, timesteps in [0, 1000] and caption features to velocities."""

    def __init__(self, config: dict):
        super().__init__()
        self.config = config
        width, depth, heads = config["hidden_size"], config["depth"], config["num_heads"]
        patch = tuple(config["patch_size"])
        self.x_embedder = nn.Module()
        self.x_embedder.proj = nn.Conv3d(config["in_channels"], width, patch, stride=patch)
        self.t_embedder = ScalarEmbedder(width)
        self.fps_embedder = ScalarEmbedder(width)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.y_embedder = CaptionEmbedder(config)
        self.rope = Rope(width // heads)
        self.spatial_blocks = nn.ModuleList(Stdit3Block(config, temporal=False) for _ in range(depth))
        self.temporal_blocks = nn.ModuleList(Stdit3Block(config, temporal=True) for _ in range(depth))
        self.final_layer = FinalLayer(width, math.prod(patch) * 2 * config["in_channels"])

    def reset_parameters(self) -> None:
        """Starts temporal blocks and the output at zero, so that training begins gently."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for embedder in (self.t_embedder, self.fps_embedder):
            nn.init.normal_(embedder.mlp[0].weight, std=0.02)
        nn.init.zeros_(self.fps_embedder.mlp[2].weight)
        for block in self.temporal_blocks:
            for layer in (block.attn.proj, block.cross_attn.proj, block.mlp.fc2):
                nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.final_layer.linear.weight)

    def forward(self, x, timestep, y, mask, fps, size_px: tuple[int, int], tap: int | None = None):
        """Velocity [B, C, T, H, W] (and, with `tap`, the tokens after that pair of blocks).

        `x` [B, C, T, H, W]; `timestep`, `fps` [B]; `y` [B, L, D] and `mask` [B, L] the
        caption; `size_px` the video's height and width.
        """
        channels = self.config["in_channels"]
        _, ph, pw = self.config["patch_size"]
        tokens = self.x_embedder.proj(x)
        frames, height, width = tokens.shape[2:]
        scale = (size_px[0] * size_px[1]) ** 0.5 / self.config["input_sq_size"]
        tokens = tokens.flatten(3).permute(0, 2, 3, 1)
        tokens = tokens + position_embedding(height, width, tokens.shape[-1], scale)

        t = self.t_embedder(timestep) + self.fps_embedder(fps)
        t_mlp = self.t_block(t).unflatten(-1, (6, -1))
        caption = self.y_embedder(y)
        text_bias = torch.zeros(mask.shape).masked_fill(mask == 0, float("-inf"))[:, None, None]

        tapped = None
        for index, (spatial, temporal) in enumerate(zip(self.spatial_blocks, self.temporal_blocks)):
            tokens = spatial(tokens, caption, text_bias, t_mlp, None)
            tokens = temporal(tokens, caption, text_bias, t_mlp, self.rope)
            if index == tap:
                tapped = tokens
        out = self.final_layer(tokens, t).view(-1, frames, height, width, ph, pw, 2 * channels)
        velocity = out[..., :channels].permute(0, 6, 1, 2, 4, 3, 5).flatten(5).flatten(3, 4)
        return velocity if tap is None else (velocity, tapped)
