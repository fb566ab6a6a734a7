"""Runs every stage in order: `python -m train.all`.

Stages that finished are not repeated; an interrupted one goes on from its last
checkpoint (in `.checkpoints/`; remove that folder to start anew).
"""

import subprocess
import sys

from . import bank, train_text
from .common import CHECKPOINT_DIR

STAGES = (
    # module, arguments, the checkpoint that makes a repetition unnecessary
    ("train_spatial", ("--minutes", "28"), None),
    ("train_text", ("--minutes", "5"), train_text.NAME),
    ("bank", ("--draws", "2"), bank.KEY_BANK),
    ("train_temporal", ("--minutes", "14"), None),
    ("train_decoder", ("--minutes", "86"), None),
    ("train_diffusion", ("--minutes", "80"), None),
    ("export", (), None),
    ("curves", (), None),
    ("evaluate", ("--autoencoder", "200", "--held-out", "245", "--write-prompts", "245", "prompts.jsonl"), None),
)


def main() -> None:
    for module, arguments, checkpoint in STAGES:
        if checkpoint and (CHECKPOINT_DIR / f"{checkpoint}.pt").exists():
            continue
        print(f"== {module} {' '.join(arguments)}", flush=True)
        subprocess.run([sys.executable, "-m", f"train.{module}", *arguments], check=True)


if __name__ == "__main__":
    main()
