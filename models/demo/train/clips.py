"""The toy world: one flat shape that moves, grows or stands still on a flat background.

A clip is described by a `ClipSpec` (what a caption can name) and a `Path` (where
the shape is in each frame, drawn at random).  Frames are rendered from signed
distances, so edges are anti-aliased at sub-pixel accuracy.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

FRAME_SIZE = 64
NUM_FRAMES = 17
FPS = 8
KEY_FRAMES = (0, 4, 8, 12, 16)  # the last pixel frame that each latent frame covers

COLOURS = {
    "red": (220, 30, 30),
    "orange": (245, 140, 20),
    "yellow": (240, 220, 40),
    "green": (30, 160, 60),
    "cyan": (40, 210, 220),
    "blue": (40, 70, 220),
    "purple": (140, 50, 180),
    "white": (245, 245, 245),
}
BACKGROUNDS = {
    "black": (15, 15, 15),
    "white": COLOURS["white"],
    "gray": (128, 128, 128),
    "blue": COLOURS["blue"],
    "green": COLOURS["green"],
    "pink": (245, 160, 190),
}
SHAPES = ("circle", "square", "triangle")
SIZES = ("small", "large")
MOTIONS = ("right", "left", "up", "down", "grow", "shrink", "still")

POSITION_JITTER_PX = 1.5
SIZE_JITTER = 0.04
SIZE_RADIUS = {"small": 8.5, "large": 14.0}
SQUARE_HALF_SIDE = 0.9  # of the radius, so that all shapes look equally large
TRIANGLE_BASE = 0.8  # the base lies this many radii below the centre, the apex one above
HELD_OUT_PERCENT = 28
HELD_OUT_SEED = "on-device-sora-demo-1"


@dataclass(frozen=True)
class ClipSpec:
    """What a caption names."""

    colour: str
    background: str
    shape: str
    size: str
    motion: str


@dataclass(frozen=True)
class Path:
    """Centre and radius of the shape in each frame, in pixels; arrays of `NUM_FRAMES`."""

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray


def is_held_out(colour: str, background: str, shape: str, motion: str) -> bool:
    """Whether a combination is kept away from the text encoder and the diffusion model."""
    key = "/".join((HELD_OUT_SEED, colour, background, shape, motion))
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 100
    return bucket < HELD_OUT_PERCENT


def combinations(held_out: bool) -> list[tuple[str, str, str, str]]:
    """All (colour, background, shape, motion) of one side of the split, in a fixed order."""
    return [
        (colour, background, shape, motion)
        for colour in COLOURS
        for background in BACKGROUNDS
        for shape in SHAPES
        for motion in MOTIONS
        if colour != background and is_held_out(colour, background, shape, motion) == held_out
    ]


def random_spec(rng: np.random.Generator, pool: list[tuple[str, str, str, str]]) -> ClipSpec:
    """A spec of a random combination out of `pool`, with a random size."""
    colour, background, shape, motion = pool[rng.integers(len(pool))]
    return ClipSpec(colour, background, shape, SIZES[rng.integers(2)], motion)


def random_path(rng: np.random.Generator, spec: ClipSpec) -> Path:
    """Draws a path for `spec`: a crossing of most of the frame, a change of size, or rest."""

    def jitter() -> float:
        return rng.uniform(-POSITION_JITTER_PX, POSITION_JITTER_PX)

    progress = np.linspace(0.0, 1.0, NUM_FRAMES)
    nominal = SIZE_RADIUS[spec.size] * rng.uniform(1 - SIZE_JITTER, 1 + SIZE_JITTER)
    radius = np.full(NUM_FRAMES, nominal)
    middle = FRAME_SIZE / 2
    x, y = (np.full(NUM_FRAMES, middle + jitter()) for _ in range(2))

    near, far = nominal + 3.0 + jitter() / 2, FRAME_SIZE - nominal - 3.0 + jitter() / 2
    crossing = near + (far - near) * progress
    if spec.motion == "right":
        x = crossing
    elif spec.motion == "left":
        x = FRAME_SIZE - crossing
    elif spec.motion == "down":
        y = crossing
    elif spec.motion == "up":
        y = FRAME_SIZE - crossing
    elif spec.motion == "grow":
        radius = nominal * (0.5 + progress)
    elif spec.motion == "shrink":
        radius = nominal * (1.5 - progress)
    return Path(x, y, radius)


def signed_distance(shape: str, dx: np.ndarray, dy: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Distance in pixels to the outline of a shape at the origin, negative inside."""
    if shape == "circle":
        return np.hypot(dx, dy) - radius
    if shape == "square":
        return np.maximum(np.abs(dx), np.abs(dy)) - SQUARE_HALF_SIDE * radius
    slope = 1.0 + TRIANGLE_BASE  # height over half the base
    side = (slope * np.abs(dx) - (dy + radius)) / np.hypot(slope, 1.0)
    return np.maximum(side, dy - TRIANGLE_BASE * radius)


def render(spec: ClipSpec, path: Path, frames=range(NUM_FRAMES)) -> tuple[np.ndarray, np.ndarray]:
    """Renders the chosen frames.

    Returns colours [F, 64, 64, 3] as f32 in [0, 255] and the signed distance to
    the outline [F, 64, 64] in pixels.
    """
    index = np.fromiter(frames, dtype=int)
    centre = np.arange(FRAME_SIZE) + 0.5
    dx = centre[None, None, :] - path.x[index, None, None]
    dy = centre[None, :, None] - path.y[index, None, None]
    distance = signed_distance(spec.shape, dx, dy, path.radius[index, None, None])
    coverage = np.clip(0.5 - distance, 0.0, 1.0)[..., None]
    colour = np.array(COLOURS[spec.colour], dtype=np.float32)
    background = np.array(BACKGROUNDS[spec.background], dtype=np.float32)
    pixels = background + coverage * (colour - background)
    return pixels.astype(np.float32), distance.astype(np.float32)


def to_model_range(pixels: np.ndarray) -> np.ndarray:
    """[..., H, W, 3] in [0, 255] to [..., 3, H, W] in [-1, 1]."""
    return np.moveaxis(pixels, -1, -3) / 127.5 - 1.0


def to_uint8(video: np.ndarray) -> np.ndarray:
    """[..., 3, H, W] in [-1, 1] to [..., H, W, 3] u8, rounded as the pipeline writes frames."""
    scaled = (np.clip(video, -1.0, 1.0) + 1.0) / 2.0 * 255.0 + 0.5
    return np.moveaxis(scaled, -3, -1).astype(np.uint8)
