"""Turns the exported weights back into checkpoints, so that training can go on without the old ones.

What comes back is what f16 kept of the moving averages; optimizer states, the bank's
latents and training-only heads do not.  That is enough for `train_decoder`, which then
starts from the exported decoders, and for `export`; other stages are trained anew.
After writing, it exports the checkpoints and compares them byte by byte with where
they came from.

    python -m train.restore
"""

import argparse
import tempfile
from pathlib import Path

from . import bank, export, train_diffusion, train_spatial, train_temporal, train_text
from .common import CHECKPOINT_DIR, WEIGHTS_DIR, save_checkpoint
from .generate import DemoModel


def restore(folder: Path) -> None:
    """Writes the checkpoints that hold the networks of a model folder."""
    model = DemoModel(folder)
    save_checkpoint(train_text.NAME, {"model": model.t5.state_dict()})
    save_checkpoint(train_diffusion.NAME, {"ema": model.stdit3.state_dict()})
    save_checkpoint(train_spatial.NAME, {"ema": model.spatial.state_dict()})
    save_checkpoint(train_temporal.NAME, {"ema": model.temporal.state_dict()})
    save_checkpoint(bank.KEY_BANK, {"shift": model.shift.flatten(), "scale": model.scale.flatten()})


def differing_files(folder: Path) -> list[str]:
    """Files that an export of the checkpoints would not write as they are in `folder`."""
    with tempfile.TemporaryDirectory() as fresh:
        export.export(Path(fresh))
        old, new = export.hashes(folder), export.hashes(Path(fresh))
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    if any(CHECKPOINT_DIR.glob("*.pt")):
        raise SystemExit(f"{CHECKPOINT_DIR} holds checkpoints already; move them away to start from the exported weights")
    restore(WEIGHTS_DIR)
    different = differing_files(WEIGHTS_DIR)
    if different:
        raise SystemExit(f"an export of the restored checkpoints differs in {', '.join(different)}")
    print("restored; an export gives the same bytes")


if __name__ == "__main__":
    main()
