"""Temporal autoencoder: four spatial latents to one, and back, causally.

The layout and the parameter names are those of Open-Sora v1.2's `VAE_Temporal_SD`.
Clips are padded in front with zero frames to a multiple of four, so latent frame i
covers pixel frames 4i-3 to 4i and sees nothing after them.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F


class CausalConv3d(nn.Module):
    """A convolution that pads with zeros: both sides in space, only the past in time."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, time_stride: int = 1, bias: bool = True):
        super().__init__()
        side = kernel // 2
        past = (kernel - 1) + (1 - time_stride)
        self.padding = (side, side, side, side, past, 0)
        self.conv = nn.Conv3d(channels_in, channels_out, kernel, stride=(time_stride, 1, 1), bias=bias)

    def forward(self, x):
        return self.conv(F.pad(x, self.padding))


class ResBlock(nn.Module):
    """norm, SiLU, conv twice, without biases; a 1x1x1 shortcut where the width changes."""

    def __init__(self, channels_in: int, channels_out: int, groups: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels_in)
        self.conv1 = CausalConv3d(channels_in, channels_out, 3, bias=False)
        self.norm2 = nn.GroupNorm(groups, channels_out)
        self.conv2 = CausalConv3d(channels_out, channels_out, 3, bias=False)
        if channels_in != channels_out:
            self.conv3 = CausalConv3d(channels_in, channels_out, 1, bias=False)

    def forward(self, x):
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        return hidden + (self.conv3(x) if hasattr(self, "conv3") else x)


def res_stack(channels_in: int, channels_out: int, config: dict) -> nn.ModuleList:
    widths = [channels_in] + [channels_out] * config["num_res_blocks"]
    return nn.ModuleList(ResBlock(a, b, config["num_groups"]) for a, b in zip(widths, widths[1:]))


def run(layers, x):
    for layer in layers:
        x = layer(x)
    return x


class Encoder(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        widths = [config["filters"] * m for m in config["channel_multipliers"]]
        self.conv_in = CausalConv3d(config["in_out_channels"], config["filters"], 3, bias=False)
        self.block_res_blocks = nn.ModuleList(
            res_stack(a, b, config) for a, b in zip([config["filters"], *widths], widths)
        )
        self.conv_blocks = nn.ModuleList(
            CausalConv3d(width, width, 3, time_stride=2) if halves else nn.Identity()
            for width, halves in zip(widths, config["temporal_downsample"])
        )
        self.res_blocks = res_stack(widths[-1], widths[-1], config)
        self.norm1 = nn.GroupNorm(config["num_groups"], widths[-1])
        self.conv2 = CausalConv3d(widths[-1], 2 * config["latent_embed_dim"], 1)

    def forward(self, x):
        x = self.conv_in(x)
        for level, blocks in enumerate(self.block_res_blocks):
            x = run(blocks, x)
            if level < len(self.conv_blocks):
                x = self.conv_blocks[level](x)
        return self.conv2(F.silu(self.norm1(run(self.res_blocks, x))))


class Decoder(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        widths = [config["filters"] * m for m in config["channel_multipliers"]]
        self.conv1 = CausalConv3d(config["latent_embed_dim"], widths[-1], 3)
        self.res_blocks = res_stack(widths[-1], widths[-1], config)
        self.block_res_blocks = nn.ModuleList(
            res_stack(b, a, config) for a, b in zip(widths, [*widths[1:], widths[-1]])
        )
        self.conv_blocks = nn.ModuleList(
            CausalConv3d(width, 2 * width, 3) if doubles else nn.Identity()
            for width, doubles in zip(widths[1:], config["temporal_downsample"])
        )
        self.norm1 = nn.GroupNorm(config["num_groups"], widths[0])
        self.conv_out = CausalConv3d(widths[0], config["in_out_channels"], 3)

    def forward(self, x):
        x = run(self.res_blocks, self.conv1(x))
        for level in reversed(range(len(self.block_res_blocks))):
            x = run(self.block_res_blocks[level], x)
            if level > 0:
                conv = self.conv_blocks[level - 1]
                x = conv(x) if isinstance(conv, nn.Identity) else interleave(conv(x))
        return self.conv_out(F.silu(self.norm1(x)))


def interleave(x: torch.Tensor) -> torch.Tensor:
    """[B, 2C, T, H, W] to [B, C, 2T, H, W]: channel pairs become neighbouring frames."""
    return x.unflatten(1, (-1, 2)).permute(0, 1, 3, 2, 4, 5).flatten(2, 3)


class TemporalVae(nn.Module):
    """Works on spatial latents that were multiplied by the latent factor."""

    TIME_FACTOR = 4

    def __init__(self, config: dict):
        super().__init__()
        latent, embed = config["latent_embed_dim"], config["embed_dim"]
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = CausalConv3d(2 * latent, 2 * embed, 1)
        self.post_quant_conv = CausalConv3d(embed, latent, 1)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, 4, F, h, w] to mean and log variance [B, 4, T, h, w]."""
        missing = -x.shape[2] % self.TIME_FACTOR
        x = F.pad(x, (0, 0, 0, 0, missing, 0))
        mean, log_variance = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return mean, log_variance.clamp(-30.0, 20.0)

    def decode(self, z: torch.Tensor, num_frames: int) -> torch.Tensor:
        """[B, 4, T, h, w] to [B, 4, num_frames, h, w]."""
        return self.decoder(self.post_quant_conv(z))[:, :, -num_frames % self.TIME_FACTOR :]
