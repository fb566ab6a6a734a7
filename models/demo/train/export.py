"""Last stage: writes the trained networks as the model folder that the program embeds.

The log `weights.sha256` names every file's hash; `sha256sum -c` in the folder checks it.

    python -m train.export
"""

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from . import bank, config, tokenizer, train_diffusion, train_text
from .common import LOG_DIR, WEIGHTS_DIR, load_checkpoint

# Bookkeeping fields that readers of the official folders expect.
T5_EXTRA = {"architectures": ["T5EncoderModel"], "is_gated_act": True, "dense_act_fn": "gelu_new"}
STDIT3_EXTRA = {"architectures": ["STDiT3"]}


def write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    halves = {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in tensors.items()}
    broken = [name for name, tensor in halves.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise ValueError(f"not finite in f16: {broken}")
    save_file(halves, path, metadata={"format": "pt"})


def export(folder: Path) -> None:
    """Writes `folder` from the newest checkpoint of every stage, in f16 (moving averages, but for the text encoder)."""
    tok = tokenizer.build()
    write_json(folder / "t5/config.json", {**config.T5, **T5_EXTRA, "vocab_size": tok.get_vocab_size()})
    tok.save(str(folder / "t5/tokenizer.json"))
    write_tensors(folder / "t5/model.safetensors", load_checkpoint(train_text.NAME)["model"])

    write_json(folder / "stdit3/config.json", {**config.STDIT3, **STDIT3_EXTRA})
    write_tensors(folder / "stdit3/model.safetensors", load_checkpoint(train_diffusion.NAME)["ema"])

    key_bank = load_checkpoint(bank.KEY_BANK)
    shift, scale = (key_bank[name].to(torch.float16) for name in ("shift", "scale"))
    write_json(folder / "vae/config.json", {
        "model_type": "VideoAutoencoderPipeline",
        "micro_frame_size": config.MICRO_FRAME_SIZE,
        "shift": shift.tolist(),
        "scale": scale.tolist(),
        "vae_2d": {
            "type": "VideoAutoencoderKL", "micro_batch_size": config.MICRO_BATCH_SIZE, **config.SPATIAL_VAE
        },
        "vae_temporal": {"type": "VAE_Temporal_SD", **config.TEMPORAL_VAE},
    })
    spatial = bank.load_spatial().state_dict()
    temporal = bank.load_temporal().state_dict()
    write_tensors(folder / "vae/model.safetensors", {
        **{f"spatial_vae.module.{name}": tensor for name, tensor in spatial.items()},
        **{f"temporal_vae.{name}": tensor for name, tensor in temporal.items()},
        "shift": shift.view(1, 4, 1, 1, 1),
        "scale": scale.view(1, 4, 1, 1, 1),
    })
    write_json(folder / "generation_config.json", config.SAMPLING)


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a model folder, by its path in the folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.*"))
    }


def main() -> None:
    export(WEIGHTS_DIR)
    by_file = hashes(WEIGHTS_DIR)
    for name in by_file:
        print(f"{(WEIGHTS_DIR / name).stat().st_size:>9}  {name}")
    (LOG_DIR / "weights.sha256").write_text("".join(f"{digest}  {name}\n" for name, digest in by_file.items()))


if __name__ == "__main__":
    main()
