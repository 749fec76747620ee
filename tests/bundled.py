"""A small bundle, and pictures, for the tests of whatever reads them; `conftest.py` makes the fixtures known."""

import io
import os
import shutil
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from multilabel_nb.bundle import save_bundle
from multilabel_nb.images import open_rgb
from multilabel_nb.predictor import Predictor

ROOT = Path(__file__).resolve().parents[1]
VOCAB = ['clear', 'cloudy', 'haze', 'road', 'water']
WEATHER = VOCAB[:3]
SIZE, MEAN, STD = 32, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
THRESH = [0.5, 0.5, 0.5, 0.4, 0.6]
SCORES = {'model': {'mAP': 0.9}, 'all-negative': {'mAP': 0.2}}
ENGINES = ['onnx', 'torch']
each_engine = pytest.mark.parametrize('engine', ENGINES)
COMMAND = [sys.executable, '-m', 'multilabel_nb.command']
UTF8 = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]), 'PYTHONIOENCODING': 'utf-8'}


def smooth(seed=0, width=48, height=40):
    "Pixels of a picture with large shapes in it."
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def saved(img, fmt='PNG', **options):
    "The bytes of an image file."
    out = io.BytesIO()
    (img if isinstance(img, Image.Image) else Image.fromarray(img)).save(out, fmt, **options)
    return out.getvalue()


def tiny_model(seed=0):
    "The smallest network that timm knows by name, with answers that differ from picture to picture."
    import timm
    import torch

    model = timm.create_model('test_efficientnet', num_classes=len(VOCAB))
    gen = torch.Generator().manual_seed(seed)
    for name, weight in model.state_dict().items():
        if name.endswith('running_mean'):
            weight.copy_(torch.randn(weight.shape, generator=gen) * 0.1)
        elif name.endswith('running_var'):
            weight.copy_(torch.rand(weight.shape, generator=gen) + 0.5)
        elif weight.ndim > 1:
            weight.copy_(torch.randn(weight.shape, generator=gen) * (2 / weight[0].numel()) ** 0.5)
    pixels = np.stack([smooth(i, SIZE, SIZE) for i in range(40)])
    batch = torch.tensor(pixels / 255 * 4 - 2, dtype=torch.float32).permute(0, 3, 1, 2)
    with torch.no_grad():  # logits of mean 0 and deviation 1.5, label by label
        logits = model.eval()(batch)
        scale = 1.5 / logits.std(0)
        last = model.get_classifier()
        last.weight *= scale[:, None]
        last.bias.copy_((last.bias - logits.mean(0)) * scale)
    return model


def by_hand(model, pictures):
    "Probabilities by torch alone."
    import torch

    model = model.eval()
    squeezed = [open_rgb(p).resize((SIZE, SIZE), Image.Resampling.BILINEAR) for p in pictures]
    batch = np.stack([np.asarray(img, dtype=np.float64) for img in squeezed])
    batch = ((batch / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        return model(torch.tensor(batch, dtype=torch.float32)).sigmoid().numpy()


# ---- files that are no pictures, or damaged ones


def png(width, height, pixels, bits=8):
    "A PNG of three colours as its header says, whatever its pixels are."

    def chunk(kind, body):
        return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))

    header = struct.pack('>IIBBBBB', width, height, bits, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(pixels)) + chunk(b'IEND', b'')


def png_of_size(width, height):
    "A PNG that claims a size and holds hardly any pixels."
    return png(width, height, bytes(100))


JPG = saved(smooth(1, 300, 200), 'JPEG')
BAD_FILES = {
    'bomb.png': png_of_size(100_000, 100_000),
    'fewer pixels than said.png': png_of_size(3000, 3000),
    'no bytes.jpg': b'',
    'text.jpg': b'I am no picture.\n' * 20,
    'page.png': b'<!doctype html><title>404</title>',
    'cut.jpg': JPG[: len(JPG) // 2],
    'cut.png': saved(smooth())[:900],
    'header alone.jpg': JPG[:20],
    'archive.jpg': b'PK\x03\x04' + bytes(300),
    'not finite.tif': saved(Image.fromarray(np.full((4, 4), np.nan, np.float32)), 'TIFF'),
}


# ---- fixtures


@pytest.fixture(scope='session')
def model():
    return tiny_model()


@pytest.fixture(scope='session')
def good(tmp_path_factory, model):
    "A bundle as a folder, exported once; tests take copies."
    path = tmp_path_factory.mktemp('good') / 'bundle'
    more = {'thresh': THRESH, 'exclusive': [WEATHER], 'scores': SCORES}
    return save_bundle(path, model, VOCAB, SIZE, MEAN, STD, **more, progress=False)


@pytest.fixture
def bundle(good, tmp_path):
    "A copy to damage."
    return Path(shutil.copytree(good, tmp_path / 'bundle'))


@pytest.fixture(scope='session')
def predictors(good):
    return {engine: Predictor(good, engine=engine) for engine in ENGINES}
