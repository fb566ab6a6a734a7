"""A detector that names what a decoded clip shows, from its pixels alone.

It knows the contract's palette and shapes and nothing of the prompt, the model or
the renderer.  `detect` takes u8 frames [F, 64, 64, 3]; what it cannot name with
confidence it calls "unclear", which counts as wrong.
"""

from dataclasses import dataclass

import numpy as np

from .clips import BACKGROUNDS, COLOURS

UNCLEAR = "unclear"
BORDER_PX = 3
MIN_CONTRAST = 40.0  # RGB distance that something must have from the background to be seen
MIN_AREA_PX = 8.0  # a frame with less than this shows nothing
MIN_VISIBLE = 0.9  # part of the frames that must show something
MIN_OVERLAP = 0.75  # mean overlap with the best ideal shape
MIN_TRAVEL_PX = 16.0  # total travel of a moving shape
MAX_DRIFT_PX = 7.0  # total travel of a shape that stays in place
MIN_AREA_RATIO = 2.0  # last over first area of a growing shape
SMALL_BELOW_PX = 11.5  # radius that divides small from large

# Area over squared radius, with the contract's radius of each shape.
AREA_FACTOR = {"circle": np.pi, "square": 1.8**2, "triangle": 1.8}


@dataclass(frozen=True)
class Detection:
    """What the clip shows; any field may be "unclear"."""

    colour: str
    background: str
    shape: str
    size: str
    motion: str


def nearest_colour(rgb: np.ndarray, palette: dict, exclude: tuple[str, ...] = ()) -> str:
    """Name of the palette's colour with the smallest RGB distance."""
    names = [name for name in palette if name not in exclude]
    distances = [np.linalg.norm(rgb - np.array(palette[name], dtype=float)) for name in names]
    return names[int(np.argmin(distances))]


def background_colour(frames: np.ndarray) -> np.ndarray:
    """Median colour of the frames' borders."""
    border = np.ones(frames.shape[1:3], dtype=bool)
    border[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = False
    return np.median(frames[:, border].reshape(-1, 3), axis=0)


def foreground(frames: np.ndarray, background: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Median colour of what differs most from the background, and soft masks [F, H, W].

    A mask is how far a pixel lies on the way from the background to the shape's colour.
    """
    contrast = np.linalg.norm(frames - background, axis=-1)
    strongest = np.percentile(contrast, 99.5)
    if strongest < MIN_CONTRAST:
        return None
    colour = np.median(frames[contrast > 0.6 * strongest], axis=0)
    axis = colour - background
    masks = np.clip((frames - background) @ axis / (axis @ axis), 0.0, 1.0)
    masks[masks < 0.2] = 0.0  # a faint texture of the background is not part of the shape
    return colour, masks


def centroids(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Area and centre of each frame's mask."""
    rows, columns = np.mgrid[: masks.shape[1], : masks.shape[2]] + 0.5
    area = masks.sum(axis=(1, 2))
    safe = np.maximum(area, 1e-6)
    return area, (masks * columns).sum(axis=(1, 2)) / safe, (masks * rows).sum(axis=(1, 2)) / safe


def ideal_mask(shape: str, area: float, x: float, y: float, height: int, width: int) -> np.ndarray:
    """An ideal shape of a given area around a given centroid."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    dx, dy = columns - x, rows - y
    radius = np.sqrt(area / AREA_FACTOR[shape])
    if shape == "circle":
        outside = np.hypot(dx, dy) - radius
    elif shape == "square":
        outside = np.maximum(abs(dx), abs(dy)) - 0.9 * radius
    else:
        dy = dy + 0.2 * radius  # the centroid lies two thirds down from the apex
        outside = np.maximum((1.8 * abs(dx) - dy - radius) / np.hypot(1.8, 1.0), dy - 0.8 * radius)
    return np.clip(0.5 - outside, 0.0, 1.0)


def name_shape(masks, area, x, y) -> str:
    """The shape whose ideal masks overlap best (intersection over union, mean of frames)."""
    height, width = masks.shape[1:]
    overlap = {}
    for shape in AREA_FACTOR:
        scores = []
        for mask, a, cx, cy in zip(masks, area, x, y):
            if a >= MIN_AREA_PX:
                ideal = ideal_mask(shape, a, cx, cy, height, width)
                scores.append(np.minimum(mask, ideal).sum() / np.maximum(mask, ideal).sum())
        overlap[shape] = np.mean(scores)
    best = max(overlap, key=overlap.get)
    return best if overlap[best] >= MIN_OVERLAP else UNCLEAR


def name_motion(area, x, y) -> str:
    """The motion, from straight lines fitted to the centre and from the areas at both ends."""
    frame = np.arange(len(area))
    last = len(area) - 1
    travel_x = np.polyfit(frame, x, 1)[0] * last
    travel_y = np.polyfit(frame, y, 1)[0] * last
    far, near = max(abs(travel_x), abs(travel_y)), min(abs(travel_x), abs(travel_y))
    ratio = area[-3:].mean() / max(area[:3].mean(), 1e-6)
    resized = max(ratio, 1.0 / max(ratio, 1e-6)) >= MIN_AREA_RATIO
    if far >= MIN_TRAVEL_PX and near < far / 2 and not resized:
        if abs(travel_x) > abs(travel_y):
            return "right" if travel_x > 0 else "left"
        return "down" if travel_y > 0 else "up"
    if far <= MAX_DRIFT_PX:
        if resized:
            return "grow" if ratio > 1 else "shrink"
        return "still"
    return UNCLEAR


def detect(frames: np.ndarray) -> Detection:
    """Names colour, background, shape, size and motion of u8 frames [F, H, W, 3]."""
    frames = frames.astype(np.float64)
    behind = background_colour(frames)
    background = nearest_colour(behind, BACKGROUNDS)
    found = foreground(frames, behind)
    if found is None:
        return Detection(UNCLEAR, background, UNCLEAR, UNCLEAR, UNCLEAR)
    rgb, masks = found
    colour = nearest_colour(rgb, COLOURS, exclude=(background,))
    area, x, y = centroids(masks)
    visible = area >= MIN_AREA_PX
    if visible.mean() < MIN_VISIBLE:
        return Detection(colour, background, UNCLEAR, UNCLEAR, UNCLEAR)
    shape = name_shape(masks, area, x, y)
    size = UNCLEAR
    if shape != UNCLEAR:
        radius = np.sqrt(area[visible] / AREA_FACTOR[shape]).mean()
        size = "small" if radius < SMALL_BELOW_PX else "large"
    return Detection(colour, background, shape, size, name_motion(area[visible], x[visible], y[visible]))
