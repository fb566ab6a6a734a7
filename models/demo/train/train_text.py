"""Stage 2: trains the text encoder to name what a caption says, then freezes it.

Linear heads (thrown away) read colour, background, shape, size and motion from
*every* token's feature, so that the diffusion model's cross-attention finds all of
it wherever it looks.  Held-out combinations are never seen.

    python -m train.train_text --minutes 5
"""

import argparse
import json

import numpy as np
import torch
import torch.nn.functional as F

from . import captions, clips, config, tokenizer
from .common import (
    SEED,
    CsvLog,
    Schedule,
    load_checkpoint,
    optimizer_step,
    run_workers,
    save_checkpoint,
)
from .t5 import T5Encoder

NAME = "text"
BATCH = 192
PEAK_RATE = 2e-3
CLASSES = {
    "colour": tuple(clips.COLOURS),
    "background": tuple(clips.BACKGROUNDS),
    "shape": clips.SHAPES,
    "size": (*clips.SIZES, "unsaid"),
    "motion": clips.MOTIONS,
}


def encode_batch(tok, texts: list[str], length: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask [B, L], padded to the longest caption or to `length`."""
    rows = [tok.encode(text).ids for text in texts]
    width = length or max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    return ids, (ids != 0).long()


def random_batch(rng: np.random.Generator, pool, count: int):
    """Captions of random specs and the class of each attribute."""
    texts, labels = [], {name: [] for name in CLASSES}
    for _ in range(count):
        spec = clips.random_spec(rng, pool)
        text, sized = captions.caption(rng, spec)
        texts.append(text)
        for name, classes in CLASSES.items():
            value = "unsaid" if name == "size" and not sized else getattr(spec, name)
            labels[name].append(classes.index(value))
    return texts, {name: torch.tensor(values) for name, values in labels.items()}


def new_encoder() -> T5Encoder:
    """A fresh encoder whose embeddings start at a moderate size."""
    sizes = dict(config.T5, vocab_size=tokenizer.build().get_vocab_size())
    encoder = T5Encoder(sizes)
    torch.nn.init.normal_(encoder.shared.weight, std=0.5)
    torch.nn.init.normal_(encoder.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight, std=0.2)
    for block in encoder.encoder.block:  # attention is unscaled, so queries start small
        torch.nn.init.normal_(block.layer[0].SelfAttention.q.weight, std=(64 * 16) ** -0.5)
    return encoder


def load_trained() -> T5Encoder:
    """The frozen encoder of the last training."""
    encoder = new_encoder()
    encoder.load_state_dict(load_checkpoint(NAME)["model"])
    return encoder.eval().requires_grad_(False)


@torch.no_grad()
def accuracy(encoder, heads, tok, pool, count: int = 1500) -> dict[str, float]:
    """How often each attribute is named right from the mean of a caption's tokens."""
    texts, labels = random_batch(np.random.default_rng(SEED + 1), pool, count)
    ids, mask = encode_batch(tok, texts)
    weight = mask[..., None] / mask.sum(1)[:, None, None]
    pooled = (encoder(ids, mask) * weight).sum(1)
    return {name: (heads[name](pooled).argmax(-1) == labels[name]).float().mean().item() for name in CLASSES}


def worker(rank: int, minutes: float) -> None:
    tok = tokenizer.build()
    encoder = new_encoder()
    heads = torch.nn.ModuleDict({n: torch.nn.Linear(config.T5["d_model"], len(c)) for n, c in CLASSES.items()})
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=PEAK_RATE, weight_decay=1e-3)
    schedule = Schedule(minutes, PEAK_RATE)
    log = CsvLog(NAME, ("step", "minutes", "loss", *(f"held_out_{name}" for name in CLASSES)))
    pool, unseen = clips.combinations(held_out=False), clips.combinations(held_out=True)
    rng = np.random.default_rng((SEED, rank))

    while not schedule.finished:
        rate = schedule.advance()
        texts, labels = random_batch(rng, pool, BATCH)
        ids, mask = encode_batch(tok, texts)
        features = encoder(ids, mask)[mask.bool()]
        owner = mask.nonzero()[:, 0]
        loss = sum(F.cross_entropy(heads[name](features), labels[name][owner]) for name in CLASSES)
        loss.backward()
        optimizer_step(optimizer, rate)
        if schedule.step % 200 == 0 or schedule.finished:
            right = accuracy(encoder, heads, tok, unseen)
            log.write(schedule.step, schedule.spent / 60, loss.item(), *right.values())
    save_checkpoint(NAME, {"model": encoder.state_dict()})
    print(json.dumps({"held_out": right, "seen": accuracy(encoder, heads, tok, pool)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    args = parser.parse_args()
    run_workers(worker, 1, 29502, args.minutes)


if __name__ == "__main__":
    main()
