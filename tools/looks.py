"""Is a picture like those that a network was trained on? A rule of ten plain numbers, the same here and in docs/live/looks.js.

A picture is compared with every training picture; it is too far from all of them when the nearest is farther away than all but
one in two hundred training pictures are from their own nearest.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

SHARE = 0.995  # of the training pictures that the limit lets pass
FLOOR = 0.25  # levels of grey: what is far below it counts as none


def statistics(square: np.ndarray) -> np.ndarray:
    """Ten numbers of a picture: brightness, two colour shifts, contrast, four roughnesses, the spread of the two shifts.

    `square`: (S, S, 3) bytes, `S` a multiple of 8. Spreads and roughnesses are logarithms to base 2. The roughness of a grey picture is the
    mean difference of neighbours, in its own size, a half, a quarter and an eighth of it.
    """
    bands = np.asarray(square, np.float64)
    grey, shifts = bands.mean(2), bands[..., [0, 2]] - bands[..., [1]]
    numbers = [grey.mean(), *shifts.mean((0, 1))]
    spreads, small = [grey.std()], grey
    for _ in range(4):
        spreads.append((abs(np.diff(small, axis=0)).mean() + abs(np.diff(small, axis=1)).mean()) / 2)
        side = len(small) // 2
        small = small.reshape(side, 2, side, 2).mean((1, 3))
    return np.array([*numbers, *np.log2(FLOOR + np.array([*spreads, *shifts.std((0, 1))]))])


def fit(squares: list[np.ndarray]) -> dict:
    "The rule from training pictures, bytes of one size: what `distance` needs, ready for JSON."
    rows = np.array([statistics(square) for square in squares])
    mean, std = rows.mean(0).round(4), rows.std(0).round(4)
    tiles = ((rows - mean) / std).round(2)
    apart = np.sort(np.linalg.norm(tiles[:, None] - tiles[None], axis=2), axis=1)[:, 1]  # the first is the picture itself
    return {'limit': round(float(np.quantile(apart, SHARE)), 3), 'mean': mean.tolist(), 'std': std.tolist(), 'tiles': tiles.tolist()}


def distance(square: np.ndarray, rule: dict) -> float:
    "How far a picture is from the nearest training picture; above `rule['limit']` it is unlike all of them."
    place = (statistics(square) - rule['mean']) / rule['std']
    return float(np.linalg.norm(place - np.array(rule['tiles']), axis=1).min())


# ---- pictures of other things, to measure the rule with


def squares(pictures: list[Image.Image], size: int) -> list[np.ndarray]:
    "Pictures as the network takes them: RGB bytes, squeezed to a square."
    return [np.asarray(picture.convert('RGB').resize((size, size), Image.Resampling.BILINEAR)) for picture in pictures]


def strangers(side: int = 256) -> dict[str, list[Image.Image]]:
    "Pictures that a network for tiles should not answer for, by what they are."
    from multilabel_nb.standins.pascal import pascal_labels, pascal_scene

    rng = np.random.default_rng(0)
    colours = list(product(range(0, 256, 51), repeat=3))
    noisy = [rng.normal(colour, spread, (side, side, 3)).clip(0, 255) for colour in colours[::8] for spread in (5, 20, 80)]
    photographs = list(photos())
    return {
        'blank pictures': [Image.new('RGB', (side, side), colour) for colour in colours],
        'noise': [Image.fromarray(pixels.astype(np.uint8)) for pixels in noisy],
        'photographs': photographs + [cut(rng, photo) for photo in photographs for _ in range(20)],
        'drawn street scenes and interiors': [pascal_scene(pascal_labels([1, i]), [1, i]) for i in range(60)],
    }


def photos() -> Iterator[Image.Image]:
    "The photographs that come with scikit-learn and matplotlib: a temple, a flower, a portrait."
    from matplotlib import get_data_path
    from sklearn.datasets import load_sample_images

    yield from map(Image.fromarray, load_sample_images().images)
    yield Image.open(Path(get_data_path()) / 'sample_data' / 'grace_hopper.jpg')


def cut(rng: np.random.Generator, photo: Image.Image) -> Image.Image:
    "A square part of a photograph, at a random place."
    side = int(min(photo.size) * rng.uniform(0.35, 0.9))
    left, top = (int(rng.integers(0, whole - side)) for whole in photo.size)
    return photo.crop((left, top, left + side, top + side))
