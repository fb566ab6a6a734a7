"""Draws the logs as one picture, `logs/curves.svg`: python -m train.curves"""

import csv

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402  (after the choice of backend)

from .common import LOG_DIR

PANELS = (
    # log, column, title, logarithmic
    ("spatial", "psnr_db", "spatial: PSNR (dB)", False),
    ("temporal", "psnr_db", "temporal: PSNR between key frames (dB)", False),
    ("decoder", "psnr_db", "decoders: PSNR from noisy latents (dB)", False),
    ("diffusion", "loss", "diffusion: loss", True),
    ("diffusion", "frame_head_loss", "diffusion: loss of the frame-index head", True),
    ("text", "loss", "text encoder: loss", True),
)


def read(name: str, column: str) -> tuple[list[float], list[float]]:
    """Minutes and values of a log's column; a run that follows another goes on where that one's minutes end."""
    with (LOG_DIR / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    minutes, before, last = [], 0.0, 0.0
    for row in rows:
        now = float(row["minutes"])
        before += last if now < last else 0.0
        minutes.append(before + now)
        last = now
    return minutes, [float(row[column]) for row in rows]


def main() -> None:
    figure, axes = plt.subplots(2, 3, figsize=(13, 6.5))
    for axis, (name, column, title, logarithmic) in zip(axes.flat, PANELS):
        axis.plot(*read(name, column))
        axis.set(title=title, xlabel="minutes", yscale="log" if logarithmic else "linear")
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(LOG_DIR / "curves.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
