"""The folder of the live classifier: the lessons' own model as a bundle, onnxruntime-web, tiles to try, the page's script and style.

`build(dest)` makes it; the site's build calls that. Training is done once for each state of what it depends on, and kept under `build/`.
"""

import hashlib
import json
import shutil
from pathlib import Path

import looks
import numpy as np
from npm import Package, members

from multilabel_nb.files import build_folder
from multilabel_nb.images import open_rgb
from multilabel_nb.sources import data_name, is_standin, planet_sample

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / 'docs' / 'live'
CACHE = ROOT / 'build' / 'live'
RUNTIME = Package(
    'onnxruntime-web',
    '1.30.0',
    'sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==',
)
# The variant for processors alone: a quarter of the package's size without those for graphics cards, and no second script to load.
RUNTIME_FILES = 'dist/ort.wasm.bundle.min.mjs', 'dist/ort-wasm-simd-threaded.wasm'
WEATHER = 'clear', 'cloudy', 'haze', 'partly_cloudy'
N_EXAMPLES = 6
NO_LIMIT = 10**9


def build(dest: Path, rows: int = NO_LIMIT, size: int = 128, cache: Path = CACHE) -> None:
    """Write the folder `dest`, whole or not at all. Fewer `rows` to train on and a smaller `size` make a quick model for tests.

    Raises `ValueError` where the data in use is not the stand-in, `RuntimeError` where npm does not deliver.
    """
    model = trained(rows, size, cache)
    runtime = members(RUNTIME, RUNTIME_FILES)

    def fill(folder: Path) -> Path:
        made = Path(shutil.copytree(model, folder / 'live'))
        shutil.copytree(ASSETS, made, dirs_exist_ok=True)
        (made / 'runtime').mkdir()
        for name, data in runtime.items():
            (made / 'runtime' / Path(name).name).write_bytes(data)
        about = json.loads((made / 'about.json').read_text(encoding='utf-8'))
        about |= {'runtime': str(RUNTIME), 'bytes': fetched_bytes(made)}
        write_json(made / 'about.json', about)
        return made

    build_folder(Path(dest), lambda folder: False, fill)  # never taken for complete: the folder is made anew


def fetched_bytes(folder: Path) -> int:
    "What the page fetches before it can answer: runtime and graph, without the weights that only torch reads."
    files = json.loads((folder / 'model' / 'config.json').read_text(encoding='utf-8'))['files']
    return files['model.onnx']['bytes'] + sum(file.stat().st_size for file in (folder / 'runtime').iterdir())


def write_json(file: Path, data: dict) -> None:
    file.write_text(json.dumps(data, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')


# ---- the model


def trained(rows: int, size: int, cache: Path) -> Path:
    "Folder with `model/` (a bundle), `examples/` and `about.json`, from the cache or made now."
    src = planet_sample()
    if not is_standin(src):
        raise ValueError(f'{src}: not the stand-in, on which alone the live model is trained; unset MULTILABEL_NB_DATA')
    folder = cache / depends_on(rows, size)
    return build_folder(folder, lambda made: (made / 'about.json').is_file(), lambda empty: train(src, empty / 'live', rows, size))


def depends_on(rows: int, size: int) -> str:
    "Digest of all that decides what the model is: this file, the library, the versions of the others, the settings."
    files = [Path(__file__), Path(looks.__file__), ROOT / 'requirements.lock', *sorted((ROOT / 'multilabel_nb').rglob('*.py'))]
    whole = hashlib.sha256(json.dumps([rows, size]).encode())
    for file in files:
        whole.update(hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()[:16]


def train(src: Path, dest: Path, rows: int, size: int) -> Path:
    "Train a probe on the stand-in as lessons 06 and 08 do, score it on rows held out, and write `dest`."
    import torch

    from multilabel_nb.bundle import digest_data, save_bundle
    from multilabel_nb.datasets import multilabel_dataloaders, multilabel_datasets
    from multilabel_nb.decisions import apply_label_rules
    from multilabel_nb.inference import predict_probs
    from multilabel_nb.readers import read_labels
    from multilabel_nb.splits import random_split
    from multilabel_nb.tables import build_vocab, drop_rare_labels, one_hot
    from multilabel_nb.thresholds import baselines, scores_at
    from multilabel_nb.training import train_probe

    mean = std = (0.5, 0.5, 0.5)
    df, _ = drop_rare_labels(read_labels(src / 'labels.csv', verbose=False), min_count=10)
    seen, held_out = random_split(len(df), valid_pct=0.2, seed=42)
    seen = seen[:rows]
    vocab = build_vocab(df, seen)
    weather = [label for label in WEATHER if label in vocab]
    dsets = multilabel_datasets(df, src / 'train', vocab, (seen, held_out))
    dls = multilabel_dataloaders(dsets, size=size, mean=mean, std=std, augment=False, device=torch.device('cpu'))
    network = train_probe(dls, levels=True)

    files = [src / 'train' / f'{name}.jpg' for name in df.image_name]
    targs = one_hot(df.labels.iloc[held_out], vocab)
    probs = predict_probs(network, [files[i] for i in held_out], size, mean, std)
    # scored by the page's own rule, one weather to a picture
    scores = {'model': scores_at(apply_label_rules(probs, vocab, [weather]), targs)}
    scores |= baselines(targs, one_hot(df.labels.iloc[seen], vocab)).to_dict('index')
    digest = digest_data([files[i] for i in seen], df.labels.iloc[seen])
    more = {'exclusive': [weather], 'scores': scores, 'data_digest': digest}
    save_bundle(dest / 'model', network, vocab, size, mean, std, **more, progress=False)
    (dest / 'model' / 'model.safetensors').unlink()  # the page runs the graph alone

    picked = [held_out[i] for i in varied(targs, N_EXAMPLES)]
    examples = [write_example(files[i], sorted(set(df.labels.iloc[i])), dest / 'examples') for i in picked]
    accepted = write_looks([files[i] for i in seen], [files[i] for i in held_out], size, dest / 'looks.json')
    shows = held_out[telling(probs, targs)]
    home = write_home(files[shows], sorted(set(df.labels.iloc[shows])), dest)
    about = {'data': data_name(src), 'rows': {'training': len(seen), 'held out': len(held_out)}, 'accepted': accepted}
    about |= {'examples': examples, 'home': home}
    write_json(dest / 'about.json', about)  # last: the folder that has it is complete
    return dest


def varied(targs: np.ndarray, n: int) -> list[int]:
    "Positions of `n` rows that show many labels between them: one by one, the row with most labels that those before it lack."
    targs, chosen = np.asarray(targs, dtype=float), []
    for _ in range(min(n, len(targs))):
        worth = (targs * 0.1 ** targs[chosen].sum(0)).sum(1)
        worth[chosen] = -1
        chosen.append(int(worth.argmax()))
    return chosen


def write_example(file: Path, labels: list[str], folder: Path) -> dict:
    "A tile as PNG, which every browser and Pillow read alike, and what is to be known of it."
    folder.mkdir(parents=True, exist_ok=True)
    tile = open_rgb(file)
    tile.save(folder / f'{file.stem}.png', optimize=True)
    return {'file': f'examples/{file.stem}.png', 'width': tile.width, 'height': tile.height, 'labels': labels}


# ---- not sure


def write_looks(seen: list[Path], held_out: list[Path], size: int, file: Path) -> dict[str, list[int]]:
    "Write the rule that tells tiles from other pictures; by kind of picture, how many it accepts, and of how many."
    rule = looks.fit(looks.squares(map(open_rgb, seen), size))
    file.write_text(json.dumps(rule), encoding='utf-8')
    kinds = {'tiles held out': map(open_rgb, held_out), **looks.strangers()}
    apart = {kind: [looks.distance(square, rule) for square in looks.squares(pictures, size)] for kind, pictures in kinds.items()}
    return {kind: [sum(x <= rule['limit'] for x in far), len(far)] for kind, far in apart.items()}


# ---- the home page


def telling(probs: np.ndarray, targs: np.ndarray) -> int:
    "The row that shows best what a threshold does: wrong at .5, all right at another, and of those rows the one with most labels."
    probs, targs = np.asarray(probs), np.asarray(targs) > 0
    lowest, highest = np.where(targs, probs, 2).min(1), np.where(targs, -1, probs).max(1)
    wrong = ((probs > 0.5) != targs).any(1)
    return int((targs.sum(1) + 100 * (wrong & (lowest - highest > 0.05))).argmax())


def write_home(file: Path, labels: list[str], dest: Path) -> dict:
    "The tile of the home page as JPEG, and what the bundle says of that very file."
    from multilabel_nb.predictor import Predictor

    tile = open_rgb(file)
    tile.save(dest / 'home.jpg', quality=85)
    probs = Predictor(dest / 'model', 'onnx').predict(dest / 'home.jpg').probs
    shown = {label: round(prob, 4) for label, prob in probs.items()}
    return {'file': 'home.jpg', 'width': tile.width, 'height': tile.height, 'labels': labels, 'probs': shown}
