"""Judges clips with the pixel detector.

    python -m train.evaluate --held-out 245          the exported model, unseen combinations
    python -m train.evaluate --autoencoder 100       true clips, and their reconstructions
    python -m train.evaluate --write-prompts 245 FILE
    python -m train.evaluate --frames-dir DIR        clips that the program wrote

A frames folder holds, for each clip, `<name>.json` with a "prompt" and a folder
`<name>/` of PNG frames.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import captions, clips
from .common import SEED
from .detect import detect
from .generate import DemoModel
from .parse import parse
from .vae_spatial import LATENT_FACTOR

ATTRIBUTES = ("colour", "background", "shape", "motion")
BATCH = 16


class Score:
    """Counts of right answers for each attribute, with the mistakes; PSNR where a true clip is known."""

    def __init__(self):
        self.right, self.asked, self.mistakes, self.psnr_db = Counter(), Counter(), [], []

    def add(self, label: str, wanted: dict[str, str | None], frames: np.ndarray) -> None:
        """Compares a clip with what its prompt names; attributes that it does not name are skipped."""
        seen = vars(detect(frames))
        wrong = {k: (v, seen[k]) for k, v in wanted.items() if v is not None and seen[k] != v}
        for name, value in wanted.items():
            self.asked[name] += value is not None
            self.right[name] += value is not None and name not in wrong
        self.asked["all four"] += 1
        self.right["all four"] += not any(name in wrong for name in ATTRIBUTES)
        if wrong:
            self.mistakes.append((label, wrong))

    def report(self) -> str:
        names = (*ATTRIBUTES, "size", "all four")
        parts = [f"{n} {100 * self.right[n] / self.asked[n]:.1f}%" for n in names if self.asked[n]]
        if self.psnr_db:
            parts.append(f"PSNR {np.mean(self.psnr_db):.2f} dB")
        return f"n = {self.asked['all four']}: " + ", ".join(parts)


def peak_signal_to_noise(frames: np.ndarray, wanted: np.ndarray) -> float:
    """PSNR in dB of a u8 clip, from the squared error over all its frames."""
    error = np.square(frames.astype(np.float64) - wanted).mean()
    return 10 * np.log10(255**2 / error)


def held_out_cases(count: int, seed: int = SEED) -> list[tuple[str, dict[str, str]]]:
    """Prompts of unseen combinations, each combination in turn in a random order, and what each names."""
    rng = np.random.default_rng(seed)
    combinations = clips.combinations(held_out=True)
    order = rng.permutation(len(combinations))
    prompts = []
    for i in range(count):
        colour, background, shape, motion = combinations[order[i % len(order)]]
        spec = clips.ClipSpec(colour, background, shape, clips.SIZES[rng.integers(2)], motion)
        prompt, sized = captions.caption(rng, spec)
        names = {name: value for name, value in vars(spec).items() if sized or name != "size"}
        prompts.append((prompt, names))
    return prompts


def held_out_prompts(count: int, seed: int = SEED) -> list[str]:
    """The prompts alone."""
    return [prompt for prompt, _ in held_out_cases(count, seed)]


def judge_model(count: int, seed: int) -> Score:
    model, score = DemoModel(), Score()
    prompts = held_out_prompts(count)
    for start in range(0, count, BATCH):
        chunk = prompts[start : start + BATCH]
        for prompt, frames in zip(chunk, model.generate(chunk, seed + start)):
            score.add(prompt, parse(prompt), frames)
    return score


def judge_autoencoder(count: int) -> dict[str, Score]:
    """Scores of true clips and of three ways through the autoencoders, with the mean PSNR of each.

    "key latents decoded" is the ceiling of generated clips: the diffusion model learns
    key frames' spatial latents.  "encoded and decoded" also passes the temporal encoder.
    """
    model = DemoModel()
    rng = np.random.default_rng(SEED + 2)
    pool = clips.combinations(held_out=False) + clips.combinations(held_out=True)
    scores = {n: Score() for n in ("true clips", "single frames", "key latents decoded", "encoded and decoded")}
    for _ in range(count):
        spec = clips.random_spec(rng, pool)
        pixels, _ = clips.render(spec, clips.random_path(rng, spec))
        images = torch.from_numpy(clips.to_model_range(pixels))
        video = images.transpose(0, 1)[None]
        with torch.no_grad():
            frames = model.spatial.encode(images)[0]
            keys = (frames[list(clips.KEY_FRAMES)] * LATENT_FACTOR).transpose(0, 1)[None]
            shown = (
                images,
                model.spatial.decode(frames),
                model.decode((keys - model.shift) / model.scale)[0].transpose(0, 1),
                model.decode(model.encode(video))[0].transpose(0, 1),
            )
        true_clip = clips.to_uint8(images.numpy())
        for name, result in zip(scores, shown):
            rebuilt = clips.to_uint8(result.numpy())
            scores[name].add(str(spec), vars(spec), rebuilt)
            if name != "true clips":
                scores[name].psnr_db.append(peak_signal_to_noise(rebuilt, true_clip))
    return scores


def judge_folder(folder: Path) -> Score:
    score = Score()
    for sidecar in sorted(folder.glob("*.json")):
        files = sorted((folder / sidecar.stem).glob("*.png"))
        prompt = json.loads(sidecar.read_text()).get("request", {}).get("prompt")
        if prompt and files:
            frames = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
            score.add(prompt, parse(prompt), frames)
    return score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held-out", type=int, metavar="N")
    parser.add_argument("--autoencoder", type=int, metavar="N")
    parser.add_argument("--frames-dir", type=Path, metavar="DIR")
    parser.add_argument("--write-prompts", nargs=2, metavar=("N", "FILE"))
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--mistakes", action="store_true", help="list every wrong clip")
    args = parser.parse_args()
    torch.set_num_threads(1)
    scores = {}
    if args.write_prompts:
        count, path = args.write_prompts
        cases = held_out_cases(int(count), args.seed)
        lines = (json.dumps({"prompt": prompt, "attributes": names}) + "\n" for prompt, names in cases)
        Path(path).write_text("".join(lines))
    if args.autoencoder:
        scores.update(judge_autoencoder(args.autoencoder))
    if args.held_out:
        scores["held-out prompts"] = judge_model(args.held_out, args.seed)
    if args.frames_dir:
        scores[args.frames_dir.name] = judge_folder(args.frames_dir)
    for name, score in scores.items():
        print(f"{name}: {score.report()}")
        if args.mistakes:
            for label, wrong in score.mistakes:
                print(f"  {label}: {wrong}")


if __name__ == "__main__":
    main()
