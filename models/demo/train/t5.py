"""T5 v1.1 encoder under the parameter names of Hugging Face's `T5EncoderModel`."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F


class RmsNorm(nn.Module):
    """Scales by the root mean square; no mean, no bias."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)


def relative_position_buckets(length: int, buckets: int, max_distance: int) -> torch.Tensor:
    """Bucket of every (query, key) distance: exact when near, logarithmic when far."""
    position = torch.arange(length)
    distance = position[None, :] - position[:, None]
    half = buckets // 2
    exact = half // 2
    magnitude = distance.abs()
    far = exact + (
        torch.log(magnitude.clamp_min(1).float() / exact) / math.log(max_distance / exact) * (half - exact)
    ).long().clamp_max(half - exact - 1)
    return (distance > 0).long() * half + torch.where(magnitude < exact, magnitude, far)


class SelfAttention(nn.Module):
    """Attention without scaling, with an additive position bias that block 0 owns."""

    def __init__(self, config: dict, owns_bias: bool):
        super().__init__()
        width, inner = config["d_model"], config["num_heads"] * config["d_kv"]
        self.heads = config["num_heads"]
        self.q = nn.Linear(width, inner, bias=False)
        self.k = nn.Linear(width, inner, bias=False)
        self.v = nn.Linear(width, inner, bias=False)
        self.o = nn.Linear(inner, width, bias=False)
        if owns_bias:
            self.relative_attention_bias = nn.Embedding(config["relative_attention_num_buckets"], self.heads)

    def forward(self, x, bias):
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        return self.o(mixed.transpose(1, 2).flatten(2))


class GatedGelu(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        self.wi_0 = nn.Linear(config["d_model"], config["d_ff"], bias=False)
        self.wi_1 = nn.Linear(config["d_model"], config["d_ff"], bias=False)
        self.wo = nn.Linear(config["d_ff"], config["d_model"], bias=False)

    def forward(self, x):
        return self.wo(F.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))


class Block(nn.Module):
    """Self-attention and feed-forward, each after its norm, each with a residual."""

    def __init__(self, config: dict, owns_bias: bool):
        super().__init__()
        eps = config["layer_norm_epsilon"]
        attention, feed_forward = nn.Module(), nn.Module()
        attention.SelfAttention = SelfAttention(config, owns_bias)
        attention.layer_norm = RmsNorm(config["d_model"], eps)
        feed_forward.DenseReluDense = GatedGelu(config)
        feed_forward.layer_norm = RmsNorm(config["d_model"], eps)
        self.layer = nn.ModuleList([attention, feed_forward])

    def forward(self, x, bias):
        attention, feed_forward = self.layer
        x = x + attention.SelfAttention(attention.layer_norm(x), bias)
        return x + feed_forward.DenseReluDense(feed_forward.layer_norm(x))


class T5Encoder(nn.Module):
    """Token ids [B, L] and mask [B, L] to features [B, L, d_model]."""

    def __init__(self, config: dict):
        super().__init__()
        self.config = config
        self.shared = nn.Embedding(config["vocab_size"], config["d_model"])
        self.encoder = nn.Module()
        self.encoder.block = nn.ModuleList(
            Block(config, owns_bias=i == 0) for i in range(config["num_layers"])
        )
        self.encoder.final_layer_norm = RmsNorm(config["d_model"], config["layer_norm_epsilon"])

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        buckets = relative_position_buckets(
            ids.shape[1],
            self.config["relative_attention_num_buckets"],
            self.config["relative_attention_max_distance"],
        )
        table = self.encoder.block[0].layer[0].SelfAttention.relative_attention_bias
        bias = table(buckets).permute(2, 0, 1)[None]
        bias = bias.masked_fill(mask[:, None, None, :] == 0, torch.finfo(bias.dtype).min)
        x = self.shared(ids)
        for block in self.encoder.block:
            x = block(x, bias)
        return self.encoder.final_layer_norm(x)
