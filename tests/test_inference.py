"""What the lesson on inference cannot show: hostile bundles and pictures, killed saves, pipes and terminals, a thousand files."""

import io
import json
import os
import pickle
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tracemalloc
import weakref
import zipfile
import zlib
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from multilabel_nb import inference
from multilabel_nb.bundle import save_bundle
from multilabel_nb.bundle_files import BundleError
from multilabel_nb.command import main
from multilabel_nb.inference import load_manifest
from multilabel_nb.predictor import Predictor
from multilabel_nb.images import open_rgb

ROOT = Path(__file__).resolve().parents[1]
VOCAB = ['clear', 'cloudy', 'haze', 'road', 'water']
WEATHER = VOCAB[:3]
SIZE, MEAN, STD = 32, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
THRESH = [0.5, 0.5, 0.5, 0.4, 0.6]
SCORES = {'model': {'mAP': 0.9}, 'all-negative': {'mAP': 0.2}}
ENGINES = ['onnx', 'torch']
each_engine = pytest.mark.parametrize('engine', ENGINES)
COMMAND = [sys.executable, '-m', 'multilabel_nb.inference']
UTF8 = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]), 'PYTHONIOENCODING': 'utf-8'}


def tiny_model(seed=0):
    "A few kB of network whose answers differ from picture to picture."
    import torch
    from torch import nn

    layers = [nn.Conv2d(3, 16, 5, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(8, len(VOCAB)))
    gen = torch.Generator().manual_seed(seed)
    for weight in [*model.parameters(), model[1].running_mean]:
        weight.data.copy_(torch.randn(weight.shape, generator=gen) * 0.5)
    model[1].running_var.data.copy_(torch.rand(16, generator=gen) + 0.5)
    batch = torch.tensor(np.stack([smooth(i, SIZE, SIZE) for i in range(40)]) / 255 * 4 - 2, dtype=torch.float32).permute(0, 3, 1, 2)
    with torch.no_grad():  # logits of mean 0 and deviation 1.5, label by label
        logits = model.eval()(batch)
        scale = 1.5 / logits.std(0)
        model[8].weight.data *= scale[:, None]
        model[8].bias.data.copy_((model[8].bias - logits.mean(0)) * scale)
    return model


@pytest.fixture(scope='session')
def model():
    return tiny_model()


@pytest.fixture(scope='session')
def good(tmp_path_factory, model):
    "A bundle as a folder, exported once; tests take copies."
    path = tmp_path_factory.mktemp('good') / 'bundle'
    return save_bundle(path, model, VOCAB, SIZE, MEAN, STD, thresh=THRESH, exclusive=[WEATHER], scores=SCORES)


@pytest.fixture
def bundle(good, tmp_path):
    "A copy to damage."
    return Path(shutil.copytree(good, tmp_path / 'bundle'))


@pytest.fixture(scope='session')
def predictors(good):
    return {engine: Predictor(good, engine=engine) for engine in ENGINES}


def smooth(seed=0, width=48, height=40):
    "Pixels of a picture with large shapes in it."
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def saved(img, fmt='PNG', **options):
    "The bytes of an image file."
    out = io.BytesIO()
    (img if isinstance(img, Image.Image) else Image.fromarray(img)).save(out, fmt, **options)
    return out.getvalue()


# --- answers ----------------------------------------------------------------------------------------------------------


def by_hand(model, pictures):
    "Probabilities by torch alone."
    import torch

    model = model.eval()
    batch = np.stack([np.asarray(open_rgb(p).resize((SIZE, SIZE), Image.Resampling.BILINEAR), dtype=np.float64) for p in pictures])
    batch = ((batch / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        return model(torch.tensor(batch, dtype=torch.float32)).sigmoid().numpy()


@each_engine
def test_predictions_are_those_of_the_network(engine, model, predictors):
    pictures = [saved(smooth(i)) for i in range(24)]
    expected = by_hand(model, pictures)
    assert expected.std(axis=0).min() > 0.01, 'the network says the same of every picture: the test would not see a mix-up'
    frame = predictors[engine].predict_many(pictures, bs=5)
    np.testing.assert_allclose(frame[[f'prob_{label}' for label in VOCAB]].to_numpy(), expected, atol=1e-5)
    one_by_one = [predictors[engine].predict(p) for p in pictures]
    np.testing.assert_allclose([list(p.probs.values()) for p in one_by_one], expected, atol=1e-5)
    for row, answer, labels in zip(expected, one_by_one, frame.labels, strict=True):
        weather = WEATHER[row[:3].argmax()]
        assert (
            answer.labels
            == labels
            == [weather] + [label for label, p, t in zip(VOCAB, row, THRESH, strict=True) if p > t and label not in WEATHER]
        )
        assert list(answer.probs) == VOCAB and set(answer.present) == set(labels)
        assert list(answer.present.values()) == sorted(answer.present.values(), reverse=True)


@each_engine
def test_every_kind_of_input_gives_the_same_answer(engine, predictors, tmp_path):
    predict, pixels = predictors[engine].predict, smooth(3)
    file = tmp_path / 'ä picture.png'
    Image.fromarray(pixels).save(file)
    opaque = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    kinds = [file, str(file), file.read_bytes(), Image.open(file), Image.fromarray(pixels), Image.fromarray(opaque), pixels, opaque]
    expected = predict(file).probs
    assert all(predict(kind).probs == expected for kind in kinds)
    grey = pixels[..., 0]
    assert predict(grey).probs == predict(Image.fromarray(grey)).probs == predict(np.dstack([grey] * 3)).probs
    assert predict(np.ascontiguousarray(pixels)[::-1, ::-1]).probs == predict(pixels[::-1, ::-1].copy()).probs, 'strides are read wrongly'
    many = predictors[engine].predict_many(kinds)
    np.testing.assert_allclose(many[[f'prob_{label}' for label in VOCAB]].to_numpy(), [list(expected.values())] * len(kinds), atol=1e-6)
    assert list(many.image[:2]) == [str(file)] * 2 and many.error.isna().all()


def test_list_tuple_iterator_series_and_batch_sizes_agree(predictors):
    pictures = [smooth(i) for i in range(7)]
    as_they_come = predictors['onnx'].predict_many(pictures)
    for images in (tuple(pictures), iter(pictures), (p for p in pictures), pd.Series(pictures)):
        pd.testing.assert_frame_equal(predictors['onnx'].predict_many(images), as_they_come)
    for bs, workers in ((1, 1), (3, 2), (7, 4), (100, 1)):
        pd.testing.assert_frame_equal(predictors['onnx'].predict_many(pictures, bs=bs, workers=workers), as_they_come, atol=1e-6)


def test_nothing_to_predict_is_an_empty_table_with_its_columns(predictors):
    empty, one = predictors['onnx'].predict_many([]), predictors['onnx'].predict_many([smooth()])
    assert len(empty) == 0 and list(empty.columns) == list(one.columns)


@each_engine
def test_an_iterator_is_not_read_to_its_end_at_once(engine, predictors):
    "Neither the pictures nor what is made of them pile up."
    alive, most = 0, 0

    def gone():
        nonlocal alive
        alive -= 1

    def pictures():
        nonlocal alive, most
        for i in range(200):
            picture = Image.fromarray(smooth(i % 5))
            weakref.finalize(picture, gone)
            alive += 1
            most = max(most, alive)
            yield picture
            del picture

    taken, answers = pictures(), []
    for answer in predictors[engine].iter(taken, bs=4, workers=2):
        answers.append(answer)
    assert len(answers) == 200 and most <= 30
    first = next(predictors[engine].iter(iter_forever(), bs=4, workers=2))
    assert first.labels == answers[0].labels


def iter_forever():
    while True:
        yield smooth(0)


def test_thresholds_can_be_overridden(good, predictors):
    image = smooth(5)
    probs = predictors['onnx'].predict(image).probs
    for thresh in (0.0, 0.999, [0.1] * 5, dict.fromkeys(VOCAB, 0.3), {'road': 0.0}):
        answer = Predictor(good, engine='onnx', thresh=thresh).predict(image)
        limits = (
            {**dict(zip(VOCAB, THRESH, strict=True)), **thresh}
            if isinstance(thresh, dict)
            else dict(zip(VOCAB, np.broadcast_to(thresh, 5), strict=True))
        )
        assert answer.probs == probs
        assert [x for x in answer.labels if x not in WEATHER] == [x for x in VOCAB[3:] if probs[x] > limits[x]]
    for thresh, why in ((1.5, 'thresh'), ([0.5] * 4, '5'), ({'snow': 0.5}, 'snow'), (float('nan'), 'thresh'), (-0.1, 'thresh')):
        with pytest.raises(ValueError, match=why):
            Predictor(good, engine='onnx', thresh=thresh)


def test_auto_takes_onnxruntime_and_falls_back_to_torch(good, tmp_path, model, monkeypatch):
    assert Predictor(good).engine == 'onnx'
    with pytest.raises(ValueError, match='engine'):
        Predictor(good, engine='tensorflow')
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    assert Predictor(good).engine == 'torch'
    with pytest.raises((ImportError, ValueError), match='onnxruntime'):
        Predictor(good, engine='onnx')
    with pytest.raises(ImportError, match='writing ONNX needs onnxruntime'):  # nothing is saved unchecked
        save_bundle(tmp_path / 'unchecked', model, VOCAB, SIZE, MEAN, STD)
    assert not (tmp_path / 'unchecked').exists()


@pytest.mark.parametrize('device', ['nonsense', 'cuda:99'])
def test_a_device_that_is_not_there_is_named(good, device):
    with pytest.raises(ValueError, match=f"device '{device}'") as raised:
        Predictor(good, device=device)
    assert not isinstance(raised.value, BundleError)


def test_a_bundle_without_onnx_says_so(tmp_path, model):
    path = save_bundle(tmp_path / 'b', model, VOCAB, SIZE, MEAN, STD, onnx=False)
    assert Predictor(path).engine == 'torch'
    with pytest.raises(ValueError, match='onnx'):
        Predictor(path, engine='onnx')


def test_folder_and_archive_say_the_same_and_can_be_moved(good, bundle, tmp_path, predictors):
    archive = zipped(bundle, tmp_path / 'moved.zip')
    moved = bundle.rename(tmp_path / 'other name')
    assert load_manifest(archive) == load_manifest(moved) == load_manifest(str(good))
    for engine in ENGINES:
        expected = predictors[engine].predict(smooth())
        assert Predictor(archive, engine=engine).predict(smooth()) == Predictor(moved, engine=engine).predict(smooth()) == expected


# --- pictures ---------------------------------------------------------------------------------------------------------


def png_of_size(width, height):
    "A PNG that claims a size: signature, header, and hardly any pixels."

    def chunk(kind, body):
        return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(bytes(100))) + chunk(b'IEND', b'')


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


@pytest.mark.parametrize('name', BAD_FILES)
def test_picture_that_cannot_be_read_is_named(name, predictors, tmp_path):
    file = tmp_path / name
    file.write_bytes(BAD_FILES[name])
    tracemalloc.start()
    with pytest.raises(ValueError, match=re.escape(str(file))):
        predictors['onnx'].predict(file)
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()
    with pytest.raises(ValueError, match='bytes'):
        predictors['torch'].predict(BAD_FILES[name])


def test_missing_file_and_folder_are_named(predictors, tmp_path):
    with pytest.raises(FileNotFoundError, match='gone.jpg'):
        predictors['onnx'].predict(tmp_path / 'gone.jpg')
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        predictors['onnx'].predict(tmp_path)


@pytest.mark.parametrize(
    'image',
    [
        None,
        7,
        [],
        {},
        smooth() / 255,
        smooth().astype(np.int64),
        np.zeros((3, 4, 5, 6), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros(9, np.uint8),
    ],
    ids=['none', 'number', 'list', 'dict', 'floats', 'int64', 'four axes', 'no rows', 'one axis'],
)
def test_what_is_no_picture_is_refused(image, predictors):
    with pytest.raises((TypeError, ValueError), match='image|array|picture'):
        predictors['onnx'].predict(image)
    frame = predictors['onnx'].predict_many([smooth(), image], on_error='row')
    assert frame.error.isna().tolist() == [True, False]


@each_engine
def test_one_bad_picture_among_many(engine, predictors, tmp_path):
    files = []
    for i in range(9):
        files.append(tmp_path / f'{i}.png')
        files[-1].write_bytes(BAD_FILES['cut.png'] if i == 4 else saved(smooth(i)))
    files.insert(6, tmp_path / 'gone.png')
    predictor = predictors[engine]
    with pytest.raises(ValueError, match=re.escape(str(files[4]))):
        predictor.predict_many(files, bs=3)
    with pytest.raises(FileNotFoundError, match='gone.png'):
        predictor.predict_many(files[5:], bs=3)
    frame = predictor.predict_many(files, bs=3, on_error='row')
    assert list(frame.image) == [str(f) for f in files]
    assert [i for i, error in enumerate(frame.error) if isinstance(error, str)] == [4, 6]
    assert '4.png' in frame.error[4] and 'gone.png' in frame.error[6]
    probs = frame.filter(like='prob_')
    assert probs.isna().any(axis=1).tolist() == probs.isna().all(axis=1).tolist() == [i in (4, 6) for i in range(10)]
    assert frame.labels[4] is None and frame.labels[6] is None
    np.testing.assert_allclose(list(predictor.predict(files[9]).probs.values()), probs.iloc[9], atol=1e-6)
    with pytest.raises(ValueError, match='on_error'):
        predictor.predict_many(files, on_error='skip')


def test_a_single_path_is_not_taken_for_a_list_of_letters(predictors, tmp_path):
    for wrong in ('tile.jpg', tmp_path / 'tile.jpg', b'...', smooth()):
        with pytest.raises((TypeError, ValueError), match='predict|list'):
            predictors['onnx'].predict_many(wrong)


def test_bad_batch_sizes_and_workers_are_refused(predictors):
    for option in ({'bs': 0}, {'bs': -1}, {'workers': 0}, {'workers': -2}):
        with pytest.raises(ValueError, match=next(iter(option))):
            predictors['onnx'].predict_many([smooth()], **option)


@cache
def odd_pictures():
    "Pictures in unusual files, and for each the plain picture that must give the same answer."
    rgb, grey = smooth(11), np.asarray(Image.fromarray(smooth(12)).convert('L'))
    few = grey // 64 * 85
    palette, bits = Image.fromarray(few).convert('P'), Image.fromarray(grey).point(lambda v: 255 * (v > 127)).convert('1')
    turned = Image.Exif()
    turned[0x0112] = 6
    cmyk = Image.fromarray(rgb).convert('CMYK')
    on_white = np.where(few[..., None] == 0, 255, few[..., None]).repeat(3, axis=2).astype(np.uint8)
    frames = [Image.fromarray(few), Image.fromarray(255 - few)]
    jpeg_cmyk = saved(cmyk, 'JPEG', quality=95)
    return {
        'CMYK tiff': (saved(cmyk, 'TIFF'), cmyk.convert('RGB')),
        'CMYK jpeg': (jpeg_cmyk, Image.open(io.BytesIO(jpeg_cmyk)).convert('RGB')),
        '16-bit png': (saved(grey.astype(np.uint16) * 257), grey),
        '16-bit tiff': (saved(grey.astype(np.uint16) * 257, 'TIFF'), grey),
        'palette': (saved(palette), few),
        'palette with transparency': (
            saved(palette, transparency=palette.getpixel(tuple(map(int, np.argwhere(few == 0)[0][::-1])))),
            on_white,
        ),
        'exif-rotated': (saved(np.rot90(rgb), exif=turned), rgb),
        'gif, first frame': (saved(frames[0], 'GIF', save_all=True, append_images=frames[1:]), few),
        'grey': (saved(grey), np.dstack([grey] * 3)),
        '1-bit': (saved(bits), bits.convert('RGB')),
        'RGBA, opaque': (saved(Image.fromarray(rgb).convert('RGBA')), rgb),
        'RGBA, see-through': (saved(Image.new('RGBA', (48, 40), (9, 9, 9, 0))), Image.new('RGB', (48, 40), 'white')),
        'LA': (saved(Image.fromarray(grey).convert('LA')), grey),
        'webp': (saved(rgb, 'WEBP', lossless=True), rgb),
        'bmp': (saved(rgb, 'BMP'), rgb),
        'progressive jpeg': (saved(rgb, 'JPEG', progressive=True), Image.open(io.BytesIO(saved(rgb, 'JPEG')))),
        'one pixel': (saved(rgb[:1, :1]), np.broadcast_to(rgb[:1, :1], (9, 7, 3)).copy()),
        'very wide': (saved(np.repeat(rgb[:1], 3, axis=0)), np.repeat(rgb[:1], 30, axis=0)),
    }


@pytest.mark.parametrize('name', odd_pictures())
def test_odd_picture_says_what_its_plain_twin_says(name, predictors):
    odd, plain = odd_pictures()[name]
    plain = plain if isinstance(plain, Image.Image) else Image.fromarray(plain)
    for predictor in predictors.values():
        answer, expected = predictor.predict(odd), predictor.predict(saved(plain))
        np.testing.assert_allclose(list(answer.probs.values()), list(expected.probs.values()), atol=1e-6)
        assert answer.labels == expected.labels
    black, white = (predictor.predict(np.full((9, 9, 3), v, np.uint8)).probs for v in (0, 255))
    assert max(abs(black[x] - white[x]) for x in VOCAB) > 0.05
    if name not in ('RGBA, see-through', 'one pixel'):
        assert max(abs(answer.probs[x] - other[x]) for x in VOCAB for other in (black, white)) > 0.005, 'read as a blank'


# --- hostile bundles --------------------------------------------------------------------------------------------------


class Armed:
    "Unpickled, it writes the file `code ran`."

    def __init__(self, marker):
        self.code = f'open({str(marker)!r}, "w").close()'

    def __reduce__(self):
        return exec, (self.code,)


def read_json(folder):
    return json.loads((folder / 'bundle.json').read_text())


def write_json(folder, manifest):
    (folder / 'bundle.json').write_text(manifest if isinstance(manifest, str) else json.dumps(manifest))


def field(name, value):
    "A damage: one field of bundle.json says something else; `...` removes it."

    def damage(folder):
        manifest = read_json(folder)
        at = manifest
        *parents, last = name.split('.')
        for parent in parents:
            at = at[parent]
        if value is ...:
            del at[last]
        else:
            at[last] = value(at[last]) if callable(value) else value
        write_json(folder, manifest)

    return damage


def rewrite(text):
    "A damage: bundle.json holds this text, or what a function makes of its own."

    def damage(folder):
        old = (folder / 'bundle.json').read_text()
        new = text(old) if callable(text) else text
        assert new != old
        (folder / 'bundle.json').write_bytes(new if isinstance(new, bytes) else new.encode())

    return damage


def file_of(folder, kind):
    return folder / read_json(folder)['files'][kind]['name']


def replaced(kind, make, redigest=True):
    "A damage: other bytes in the place of a file; name, size and digest made to fit them, unless told otherwise."

    def damage(folder):
        file = file_of(folder, kind)
        old = file.read_bytes()
        data = make(folder) if not isinstance(make, bytes) else make
        assert data != old
        if not redigest:
            return file.write_bytes(data)
        manifest = read_json(folder)
        digest = sha256(data).hexdigest()
        new = folder / file.name.replace(manifest['files'][kind]['sha256'][:12], digest[:12])
        file.unlink()
        new.write_bytes(data)
        if kind == 'weights' and 'onnx' in manifest['files']:  # the graph points at the weights by their name
            rename = replaced('onnx', lambda f: file_of(f, 'onnx').read_bytes().replace(file.name.encode(), new.name.encode()))
            if file.name.encode() in file_of(folder, 'onnx').read_bytes():
                rename(folder)
                manifest = read_json(folder)
        manifest['files'][kind] = {'name': new.name, 'bytes': len(data), 'sha256': digest}
        write_json(folder, manifest)

    return damage


def bytes_of(kind, change):
    return lambda folder: change(file_of(folder, kind).read_bytes())


def armed(folder):
    return pickle.dumps(Armed(folder.parent / 'code ran'))


def armed_torch(folder):
    import torch

    out = io.BytesIO()
    torch.save(Armed(folder.parent / 'code ran'), out)
    return out.getvalue()


def tensors(change):
    "The weights, changed: a function of the dictionary of arrays."

    def make(folder):
        from safetensors.numpy import load, save

        held = load(file_of(folder, 'weights').read_bytes())
        change(held)
        return save(held)

    return make


def a_big_tensor(held):
    return max(held, key=lambda name: held[name].nbytes)


def reshaped(held):
    name = a_big_tensor(held)
    held[name] = np.ascontiguousarray(held[name][:-1])


def halved(held):
    name = a_big_tensor(held)
    held[name] = held[name].astype(np.float16)


def filled(value):
    return lambda held: held.update({a_big_tensor(held): np.full_like(held[a_big_tensor(held)], value)})


def graph(change):
    "The graph of the torch engine, changed as text."

    def make(folder):
        old = file_of(folder, 'graph').read_text()
        new = change(old)
        assert new != old
        return new.encode()

    return make


def calling(name):
    "The graph of the torch engine with another operator in the place of one of its own."
    return replaced('graph', graph(lambda text: text.replace('aten.relu.default', name, 1)))


def onnx_pointing_at(where):
    "The ONNX graph, its weights said to lie elsewhere."

    def make(folder):
        import onnx

        proto = onnx.load(file_of(folder, 'onnx'), load_external_data=False)
        held = [t for t in proto.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
        assert held, 'no weight of the tiny network lies outside the graph'
        for tensor in held:
            for entry in tensor.external_data:
                entry.value = where if entry.key == 'location' else entry.value
        return proto.SerializeToString()

    return make


def onnx_with(change):
    def make(folder):
        import onnx

        proto = onnx.load(file_of(folder, 'onnx'), load_external_data=False)
        change(proto)
        return proto.SerializeToString()

    return make


def another_output(proto):
    "One more column than the vocabulary has names."
    import onnx

    (out,) = proto.graph.output
    proto.graph.node.append(onnx.helper.make_node('Concat', [out.name, out.name], ['twice'], axis=1))
    proto.graph.output.pop()
    proto.graph.output.append(onnx.helper.make_tensor_value_info('twice', onnx.TensorProto.FLOAT, [None, None]))


def hidden_reader(proto):
    "A node deep in the graph whose value lies in a file of the current folder."
    import onnx

    (out,) = proto.graph.output
    value = onnx.TensorProto(data_type=onnx.TensorProto.FLOAT, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    for key, entry in (('location', 'README.md'), ('offset', '0'), ('length', '4')):
        value.external_data.add(key=key, value=entry)
    proto.graph.initializer.append(onnx.helper.make_tensor('one', onnx.TensorProto.INT64, [1], [1]))
    (last,) = (node for node in proto.graph.node if out.name in node.output)
    last.output[0] = 'honest'
    read = onnx.helper.make_node('ConstantOfShape', ['one'], ['read'], value=value)
    proto.graph.node.extend([read, onnx.helper.make_node('Add', ['honest', 'read'], [out.name])])


def another_input(proto):
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 7


def to_endless_device(folder):
    file_of(folder, 'weights').unlink()
    file_of(folder, 'weights').symlink_to('/dev/zero')


def to_pipe(folder):
    file_of(folder, 'weights').unlink()
    os.mkfifo(file_of(folder, 'weights'))


def to_folder(folder):
    file_of(folder, 'weights').unlink()
    file_of(folder, 'weights').mkdir()


def to_file(folder):
    shutil.rmtree(folder)
    folder.write_text('I am a file.')


def emptied(folder):
    shutil.rmtree(folder)
    folder.mkdir()


HEADER = struct.Struct('<Q')
DEEP = '[' * 100_000 + ']' * 100_000
FIELDS = {  # what is wrong -> (damage, what the error must say)
    'json is a pickle': (lambda f: (f / 'bundle.json').write_bytes(armed(f)), r'bundle\.json'),
    'json is empty': (rewrite(''), r'bundle\.json'),
    'json is cut': (rewrite(lambda t: t[: len(t) // 2]), r'bundle\.json'),
    'json is a list': (rewrite('[]'), r'bundle\.json.*object'),
    'json is a number': (rewrite('1'), r'bundle\.json.*object'),
    'json is deep': (rewrite(DEEP), r'bundle\.json'),
    'a deep field': (rewrite(lambda t: t.replace('"scores"', f'"scores": {DEEP}, "_"', 1)), r'bundle\.json'),
    'json is huge': (rewrite(lambda t: t + ' ' * 9_000_000), r'bundle\.json.*(large|MiB|bytes)'),
    'json is not utf-8': (rewrite(b'\xff\xfe{}'), r'bundle\.json'),
    'json names a field twice': (rewrite(lambda t: t.replace('"size"', '"size": 64, "size"', 1)), r'bundle\.json.*size.*twice|twice.*size'),
    'json holds an endless number': (rewrite(lambda t: re.sub(r'"size": *32', '"size": ' + '9' * 5000, t)), r'bundle\.json|size'),
    'unknown field': (field('colour', 'red'), 'colour'),
    'another format': (field('format', 'a pie'), 'format'),
    'newer version': (field('format_version', 2), r'format_version.*2|2.*newer'),
    'version missing': (field('format_version', ...), 'format_version'),
    'version is text': (field('format_version', '1'), 'format_version'),
    'version is true': (field('format_version', True), 'format_version'),
    'version is 0': (field('format_version', 0), 'format_version'),
    'vocab missing': (field('vocab', ...), 'vocab'),
    'vocab is short': (field('vocab', VOCAB[:3]), 'vocab|thresholds|labels'),
    'vocab and thresholds are short': (
        lambda f: [d(f) for d in (field('vocab', VOCAB[:4]), field('thresholds', [0.5] * 4))],
        'vocab|labels|columns',
    ),
    'vocab is long': (lambda f: [d(f) for d in (field('vocab', [*VOCAB, 'z']), field('thresholds', [0.5] * 6))], 'vocab|labels|columns'),
    'vocab is empty': (field('vocab', []), 'vocab'),
    'vocab names a label twice': (field('vocab', [*VOCAB[:4], 'clear']), 'vocab.*clear'),
    'vocab of numbers': (field('vocab', [1, 2, 3, 4, 5]), 'vocab'),
    'vocab has an empty name': (field('vocab', ['', *VOCAB[1:]]), 'vocab'),
    'vocab is text': (field('vocab', 'abcde'), 'vocab'),
    'vocab is an object': (field('vocab', dict.fromkeys(VOCAB, 1)), 'vocab'),
    'thresholds missing': (field('thresholds', ...), 'thresholds'),
    'thresholds too few': (field('thresholds', [0.5] * 4), 'thresholds'),
    'thresholds above 1': (field('thresholds', [0.5] * 4 + [1.5]), 'thresholds'),
    'thresholds below 0': (field('thresholds', [0.5] * 4 + [-0.1]), 'thresholds'),
    'thresholds not a number': (field('thresholds', [0.5] * 4 + [float('nan')]), r'NaN|thresholds'),
    'thresholds null': (field('thresholds', [0.5] * 4 + [None]), 'thresholds'),
    'thresholds of text': (field('thresholds', ['0.5'] * 5), 'thresholds'),
    'thresholds of truths': (field('thresholds', [True] * 5), 'thresholds'),
    'mean of two': (field('mean', [0.5, 0.5]), 'mean'),
    'mean of text': (field('mean', ['a', 'b', 'c']), 'mean'),
    'mean endless': (field('mean', [0.5, 0.5, float('inf')]), 'mean|Infinity'),
    'mean of four hundred digits': (rewrite(lambda t: re.sub(r'"mean":\s*\[\s*0\.4', '"mean": [1' + 400 * '0', t)), 'mean'),
    'mean by 1e999': (rewrite(lambda t: re.sub(r'"mean":\s*\[\s*0\.4', '"mean": [1e999', t)), 'mean'),
    'std zero': (field('std', [0.5, 0, 0.5]), 'std'),
    'std negative': (field('std', [0.5, 0.5, -0.5]), 'std'),
    'std of one': (field('std', 0.5), 'std'),
    'std so small that all overflows': (field('std', [1e-300] * 3), 'std'),
    'size 0': (field('size', 0), 'size'),
    'size negative': (field('size', -32), 'size'),
    'size is text': (field('size', '32'), 'size'),
    'size is a fraction': (field('size', 32.5), 'size'),
    'size is true': (field('size', True), 'size'),
    'size of a billion': (field('size', 10**9), 'size'),
    'size missing': (field('size', ...), 'size'),
    'unknown resize rule': (field('resize', 'crop'), 'resize'),
    'resize rule missing': (field('resize', ...), 'resize'),
    'exclusive names an unknown label': (field('exclusive', [['clear', 'snow']]), 'exclusive.*snow|snow.*exclusive'),
    'exclusive names a label twice': (field('exclusive', [['clear', 'clear']]), 'exclusive.*clear|clear.*exclusive'),
    'a label in two exclusive groups': (field('exclusive', [['clear', 'haze'], ['haze', 'road']]), 'exclusive.*haze|haze.*exclusive'),
    'exclusive is flat': (field('exclusive', ['clear', 'haze']), 'exclusive'),
    'exclusive of numbers': (field('exclusive', [[0, 1]]), 'exclusive'),
    'exclusive of one': (field('exclusive', [['clear']]), 'exclusive'),
    'data digest is no digest': (field('data_sha256', 'abc'), 'data_sha256'),
    'scores are a list': (field('scores', [1]), 'scores'),
    'scores without a baseline': (field('scores', {'model': {'mAP': 1.0}}), 'scores'),
    'scores of text': (field('scores', {'model': {'mAP': 'good'}, 'all-negative': {'mAP': 0}}), 'scores'),
    'versions are a list': (field('versions', []), 'versions'),
    'files missing': (field('files', ...), 'files'),
    'files are a list': (field('files', []), 'files'),
    'files name no weights': (field('files.weights', ...), 'weights'),
    'files name no graph': (field('files.graph', ...), 'graph'),
    'files name an unknown kind': (field('files', lambda old: {**old, 'code': old['graph']}), 'code'),
    'file name climbs': (field('files.weights.name', '../weights.safetensors'), r'weights'),
    'file name is absolute': (field('files.weights.name', '/etc/hostname'), r'weights'),
    'file name is that of the json': (field('files.weights.name', 'bundle.json'), r'weights'),
    'file name has a null in it': (field('files.weights.name', 'a\0b'), r'weights'),
    'digest missing': (field('files.weights.sha256', ...), 'weights.*sha256|sha256.*weights'),
    'digest is short': (field('files.weights.sha256', 'abc'), 'weights'),
    'digest is a number': (field('files.weights.sha256', 7), 'weights'),
    'length is text': (field('files.weights.bytes', '9'), 'weights'),
    'length is negative': (field('files.weights.bytes', -1), 'weights'),
}
FILES = {  # the engines that must notice, what is wrong -> (damage, what the error must say)
    'digest of other bytes': ('onnx torch', field('files.weights.sha256', lambda old: old[:12] + '0' * 52), r'weights'),
    'length is wrong': ('onnx torch', field('files.weights.bytes', 5), r'weights'),
    'weights are a pickle': ('onnx torch', replaced('weights', armed), 'weights'),
    'weights are a pickle of torch': ('onnx torch', replaced('weights', armed_torch), 'weights'),
    'weights are a pickle, digest of the old': ('onnx torch', replaced('weights', armed, redigest=False), 'weights'),
    'one bit of the weights': (
        'onnx torch',
        replaced('weights', bytes_of('weights', lambda b: b[:-1] + bytes([b[-1] ^ 1])), redigest=False),
        r'weights.*SHA-256',
    ),
    'weights are cut': ('onnx torch', replaced('weights', bytes_of('weights', lambda b: b[:-100]), redigest=False), 'weights'),
    'weights are cut, digest made to fit': ('onnx torch', replaced('weights', bytes_of('weights', lambda b: b[: len(b) // 2])), 'weights'),
    'weights are empty': ('onnx torch', replaced('weights', b''), 'weights'),
    'header of absurd length': ('torch', replaced('weights', bytes_of('weights', lambda b: HEADER.pack(2**63 - 1) + b[8:])), 'weights'),
    'header longer than the file': (
        'torch',
        replaced('weights', bytes_of('weights', lambda b: HEADER.pack(len(b) * 2) + b[8:])),
        'weights',
    ),
    'header is deep': ('torch', replaced('weights', HEADER.pack(len(DEEP)) + DEEP.encode()), 'weights'),
    'weights of another shape': ('onnx torch', replaced('weights', tensors(reshaped)), 'weights|shape'),
    'weights of half precision': ('onnx torch', replaced('weights', tensors(halved)), 'weights|float'),
    'a weight is missing': ('onnx torch', replaced('weights', tensors(lambda held: held.pop(a_big_tensor(held)))), 'weights'),
    'weights that are not finite': ('onnx torch', replaced('weights', tensors(filled(np.nan))), 'weights|finite|nan'),
    'weights are missing': ('onnx torch', lambda f: file_of(f, 'weights').unlink(), 'weights'),
    'weights are a folder': ('onnx torch', to_folder, 'weights'),
    'weights are a link to an endless device': ('onnx torch', to_endless_device, 'weights'),
    'weights are a pipe': ('onnx torch', to_pipe, 'weights'),
    'graph is a pickle': ('torch', replaced('graph', armed), 'graph'),
    'graph is missing': ('torch', lambda f: file_of(f, 'graph').unlink(), 'graph'),
    'graph of another digest': ('torch', replaced('graph', b'{}', redigest=False), 'graph'),
    'graph is cut': ('torch', replaced('graph', bytes_of('graph', lambda b: b[: len(b) // 2])), 'graph'),
    'graph is an empty list': ('torch', replaced('graph', b'[]'), 'graph|network'),
    'graph is an object': ('torch', replaced('graph', b'{}'), 'graph'),
    'graph is a list of numbers': ('torch', replaced('graph', b'[1, 2]'), 'graph'),
    'graph is deep': ('torch', replaced('graph', DEEP.encode()), 'graph'),
    'graph calls what it may not': ('torch', calling('os.system'), r'graph.*os\.system|os\.system'),
    'graph calls an attribute of torch': ('torch', calling('aten.__class__.default'), r'graph.*__class__|__class__'),
    'graph trusts an index': ('torch', calling('aten.embedding_dense_backward.default'), r'aten\.embeddi.*is not an operator that'),
    'graph changes its input': ('torch', calling('aten.resize_.default'), r'aten\.resize_.*is not an operator that'),
    'graph reads a weight that is not there': (
        'torch',
        replaced('graph', graph(lambda t: re.sub(r'"([\w.]*weight)"', '"nowhere"', t, count=1))),
        'graph|weights',
    ),
    'onnx is a pickle': ('onnx', replaced('onnx', armed), 'onnx'),
    'onnx is missing': ('onnx', lambda f: file_of(f, 'onnx').unlink(), 'onnx'),
    'onnx is cut': ('onnx', replaced('onnx', bytes_of('onnx', lambda b: b[: len(b) // 2])), 'onnx'),
    'onnx of another digest': ('onnx', replaced('onnx', b'onnx', redigest=False), 'onnx'),
    'onnx is empty': ('onnx', replaced('onnx', b''), 'onnx'),
    'onnx reads a file of the system': ('onnx', replaced('onnx', onnx_pointing_at('/etc/hostname')), 'onnx'),
    'onnx reads a file above': ('onnx', replaced('onnx', onnx_pointing_at('../elsewhere')), 'onnx'),
    'onnx reads a file of the current folder': ('onnx', replaced('onnx', onnx_with(hidden_reader)), 'onnx'),
    'onnx answers more columns': ('onnx', replaced('onnx', onnx_with(another_output)), 'onnx|vocab|labels'),
    'onnx asks for another size': ('onnx', replaced('onnx', onnx_with(another_input)), 'onnx|size'),
    'json is missing': ('onnx torch', lambda f: (f / 'bundle.json').unlink(), r'bundle\.json'),
    'folder is empty': ('onnx torch', emptied, r'bundle\.json'),
    'folder is a file': ('onnx torch', to_file, 'folder'),
    'nothing there': ('onnx torch', shutil.rmtree, 'no such bundle'),
}


def refused(path, match, engines=ENGINES, loads=None):
    "Each engine refuses the bundle with an error that names it and says what is wrong, without running what it holds."
    for engine in engines:
        try:
            Predictor(path, engine=engine)
        except (BundleError, FileNotFoundError) as error:
            text = str(error)
        else:
            pytest.fail(f'{engine} loads it')
        assert str(path) in text and re.search(match, text.replace(str(path), ''), re.S), text
        assert len(text) < 1000, 'the error is a flood'
    assert not (path.parent / 'code ran').exists()


def test_the_pickles_are_armed(bundle, tmp_path):
    import torch

    for load in (lambda: pickle.loads(armed(bundle)), lambda: torch.load(io.BytesIO(armed_torch(bundle)), weights_only=False)):
        load()
        (tmp_path / 'code ran').unlink()


def test_an_undamaged_copy_loads(bundle):
    assert issubclass(BundleError, ValueError)
    manifest = load_manifest(bundle)
    assert manifest['vocab'] == VOCAB and manifest['scores'] == SCORES and manifest['thresholds'] == THRESH
    for engine in ENGINES:
        assert Predictor(bundle, engine=engine).vocab == VOCAB


def test_links_to_the_files_and_files_beside_them_do_no_harm(bundle, tmp_path, predictors):
    "Caches of downloads link to their contents; a system leaves its own files in a folder. What bundle.json does not name is not read."
    for kind in ('weights', 'graph', 'onnx'):
        file = file_of(bundle, kind)
        file.rename(tmp_path / kind)
        file.symlink_to(tmp_path / kind)
    (bundle / '.DS_Store').write_bytes(armed(bundle))
    (bundle / 'weights.pkl').write_bytes(armed(bundle))
    for engine in ENGINES:
        assert Predictor(bundle, engine=engine).predict(smooth()) == predictors[engine].predict(smooth())
    assert not (tmp_path / 'code ran').exists()


@pytest.mark.parametrize('what', FIELDS)
def test_wrong_manifest_is_refused(what, bundle):
    damage, match = FIELDS[what]
    damage(bundle)
    if 'vocab and' not in what and what != 'vocab is long':  # only the network can tell
        with pytest.raises(BundleError):
            load_manifest(bundle)
    refused(bundle, match)


@pytest.mark.parametrize('what', FILES)
def test_wrong_file_is_refused(what, bundle):
    engines, damage, match = FILES[what]
    damage(bundle)
    refused(bundle, match, engines.split())


def zipped(folder, path, rename=lambda name: name, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, 'w', compression) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, rename(file.name))
    return path


def adding(name, data=b'evil', **attributes):
    "An archive with one more member."

    def make(folder, path):
        zipped(folder, path)
        info = zipfile.ZipInfo('placeholder')
        info.filename = name
        for key, value in attributes.items():
            setattr(info, key, value)
        with zipfile.ZipFile(path, 'a') as archive:
            archive.writestr(info, data)

    return make


def linked(folder, path):
    "The weights are a symbolic link."
    name = file_of(folder, 'weights').name
    file_of(folder, 'weights').unlink()
    zipped(folder, path)
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, 'a') as archive:
        archive.writestr(info, '/etc/hostname')


def twice(folder, path):
    zipped(folder, path)
    with zipfile.ZipFile(path, 'a') as archive, pytest.warns(UserWarning, match='Duplicate'):
        archive.writestr('bundle.json', '{}')


def bomb(folder, path):
    "A hundred kB that unpack to a hundred MB."
    manifest = read_json(folder)
    zeros = bytes(100_000_000)
    file_of(folder, 'weights').unlink()
    digest = sha256(zeros).hexdigest()
    manifest['files']['weights'] = {'name': f'weights-{digest[:12]}.safetensors', 'bytes': len(zeros), 'sha256': digest}
    write_json(folder, manifest)
    zipped(folder, path, compression=zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path, 'a', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(manifest['files']['weights']['name'], zeros)
    assert path.stat().st_size < 1_000_000


def small_claim(folder, path):
    "A member that claims a hundred bytes and unpacks to a hundred MB."
    bomb(folder, path)
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack('<I', 100_000_000), struct.pack('<I', 100)))


def huge_claim(folder, path):
    "A stored member that claims four GB."
    zipped(folder, path)
    size = struct.pack('<I', file_of(folder, 'weights').stat().st_size)
    path.write_bytes(path.read_bytes().replace(size, struct.pack('<I', 2**32 - 2)))


def overlapping(folder, path):
    "The directory sends two names to the same bytes."
    zipped(folder, path)
    data = bytearray(path.read_bytes())
    first, *_, last = [m.start() for m in re.finditer(b'PK\x01\x02', bytes(data))]
    data[last + 42 : last + 46] = data[first + 42 : first + 46]
    path.write_bytes(data)


def patched(find, change):
    def make(folder, path):
        data = bytearray(zipped(folder, path).read_bytes())
        change(data, find(bytes(data)))
        path.write_bytes(data)

    return make


def locked(folder, path):
    "The flag that says: encrypted."
    data = bytearray(zipped(folder, path).read_bytes())
    for mark, at in ((b'PK\x03\x04', 6), (b'PK\x01\x02', 8)):
        for hit in re.finditer(mark, bytes(data)):
            data[hit.start() + at] |= 1
    path.write_bytes(data)


def flipped(folder, path):
    data = bytearray(zipped(folder, path).read_bytes())
    at = data.find(file_of(folder, 'weights').read_bytes()[-40:])
    data[at] ^= 1
    path.write_bytes(data)


def shortened(part):
    return lambda folder, path: path.write_bytes(zipped(folder, path).read_bytes()[: int(path.stat().st_size * part)])


ARCHIVES = {  # what is wrong -> (how the archive is made, what the error must say)
    'climbing path': (adding('../evil.txt'), r'\.\./evil'),
    'climbing in the middle': (adding('a/../../evil.txt'), 'evil'),
    'absolute path': (adding('/evil.txt'), '/evil'),
    'path of windows': (adding('C:\\evil.txt'), 'evil'),
    'climbing backslashes': (adding('..\\evil.txt'), 'evil'),
    'extra file': (adding('run me.py'), 'run me'),
    'a folder': (adding('folder/', b''), 'folder'),
    'symbolic link': (linked, 'weights'),
    'duplicate member': (twice, r'bundle\.json.*twice|twice.*bundle\.json'),
    'bomb': (bomb, 'compressed|stored'),
    'bomb that claims to be small': (small_claim, ''),
    'compressed': (lambda f, p: zipped(f, p, compression=zipfile.ZIP_DEFLATED), 'compressed|stored'),
    'member that claims four GB': (huge_claim, ''),
    'overlapping members': (overlapping, ''),
    'encrypted': (locked, ''),
    'one bit of the weights': (flipped, 'weights'),
    'cut in the middle': (shortened(0.5), 'zip|archive'),
    'cut at the end': (shortened(0.99), 'zip|archive'),
    'no bytes': (lambda f, p: p.write_bytes(b''), 'zip|archive'),
    'a text': (lambda f, p: p.write_text('I am no archive.'), 'zip|archive'),
    'a pickle': (lambda f, p: p.write_bytes(armed(f)), 'zip|archive'),
    'a pickle of torch': (lambda f, p: p.write_bytes(armed_torch(f)), ''),
    'an archive of nothing': (lambda f, p: zipfile.ZipFile(p, 'w').close(), r'bundle\.json'),
    'an archive of the folder': (lambda f, p: zipped(f, p, lambda name: f'bundle/{name}'), r'bundle\.json|bundle/'),
    'without its weights': (lambda f, p: (file_of(f, 'weights').unlink(), zipped(f, p)), 'weights'),
    'a folder of that name': (lambda f, p: p.mkdir(), r'bundle\.json|folder'),
    'nothing there': (lambda f, p: None, ''),
}


@pytest.mark.parametrize('what', ARCHIVES)
def test_wrong_archive_is_refused(what, bundle, tmp_path):
    make, match = ARCHIVES[what]
    path = tmp_path / 'inner' / 'hostile.zip'
    path.parent.mkdir()
    make(bundle, path)
    before = sorted(tmp_path.rglob('*'))
    tracemalloc.start()
    refused(path, match)
    assert tracemalloc.get_traced_memory()[1] < 50e6, 'it was unpacked'
    tracemalloc.stop()
    assert sorted(tmp_path.rglob('*')) == before


def test_the_tables_are_long_enough():
    assert len(FIELDS) + len(FILES) + len(ARCHIVES) + len(BAD_FILES) >= 40


# --- saving -----------------------------------------------------------------------------------------------------------


def entries(folder):
    return sorted(p.name for p in folder.iterdir())


WRONG = {
    'vocab of another length': ({'vocab': VOCAB[:4]}, 'vocab|labels|columns'),
    'vocab is a set': ({'vocab': set(VOCAB)}, 'vocab'),
    'vocab is text': ({'vocab': 'abcde'}, 'vocab'),
    'label twice': ({'vocab': [*VOCAB[:4], 'clear']}, 'vocab.*clear'),
    'size 0': ({'size': 0}, 'size'),
    'size is text': ({'size': '32'}, 'size'),
    'mean of two': ({'mean': (0.5, 0.5)}, 'mean'),
    'std zero': ({'std': (0.5, 0.5, 0)}, 'std'),
    'threshold above 1': ({'thresh': 1.5}, 'thresh'),
    'threshold not a number': ({'thresh': float('nan')}, 'thresh'),
    'thresholds too few': ({'thresh': [0.5] * 3}, 'thresh'),
    'exclusive names an unknown label': ({'exclusive': [['clear', 'snow']]}, 'snow'),
    'exclusive names a label twice': ({'exclusive': [['clear', 'clear']]}, 'clear'),
    'exclusive is flat': ({'exclusive': ['clear', 'haze']}, 'exclusive'),
    'scores without a baseline': ({'scores': {'model': {'mAP': 1.0}}}, 'baseline'),
    'data digest is no digest': ({'data_digest': 'abc'}, 'data'),
}


@pytest.mark.parametrize('what', WRONG)
def test_what_would_not_load_is_not_saved(what, model, tmp_path):
    changes, match = WRONG[what]
    rest = {'vocab': VOCAB, 'size': SIZE, 'mean': MEAN, 'std': STD, 'onnx': False, **changes}
    with pytest.raises(ValueError, match=match):
        save_bundle(tmp_path / 'bundle', model, **rest)
    assert entries(tmp_path) == []


def test_a_network_that_says_nan_is_not_saved(tmp_path):
    broken = tiny_model()
    broken[0].weight.data[0] = float('nan')
    with pytest.raises((ValueError, RuntimeError), match='finite|nan'):
        save_bundle(tmp_path / 'bundle', broken, VOCAB, SIZE, MEAN, STD, onnx=False)
    assert entries(tmp_path) == []


def test_nothing_is_overwritten_unasked(bundle, tmp_path, model):
    rest = (model, VOCAB, SIZE, MEAN, STD)
    archive = zipped(bundle, tmp_path / 'b.zip')
    before = archive.read_bytes(), entries(bundle)
    for path in (bundle, archive):
        with pytest.raises(FileExistsError, match=re.escape(str(path))):
            save_bundle(path, *rest, onnx=False)
    other = tmp_path / 'holiday'
    other.mkdir()
    (other / 'beach.jpg').write_bytes(JPG)
    for overwrite in (False, True):
        with pytest.raises((ValueError, FileExistsError), match=re.escape(str(other))):
            save_bundle(other, *rest, overwrite=overwrite, onnx=False)
    assert entries(other) == ['beach.jpg'] and (archive.read_bytes(), entries(bundle)) == before


def test_saving_leaves_the_network_and_the_generator_as_they_were(tmp_path):
    import torch

    model = tiny_model(3).train()
    model[4].eval()
    held = {name: weight.clone() for name, weight in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    save_bundle(tmp_path / 'b', model, VOCAB, SIZE, MEAN, STD, onnx=False)
    assert [module.training for module in model.modules()] == modes
    assert held.keys() == model.state_dict().keys() and all(weight.equal(held[name]) for name, weight in model.state_dict().items())
    assert torch.get_rng_state().equal(state) and (np.random.get_state()[1] == numpy_state).all()


def test_nothing_that_unpickles_lies_in_a_bundle(good):
    for file in good.iterdir():
        data = file.read_bytes()
        assert not data.startswith((b'\x80', b'PK')) and not zipfile.is_zipfile(file)
        with pytest.raises(Exception, match='.*'):
            pickle.loads(data)
    assert sum(f.stat().st_size for f in good.iterdir()) < 60_000
    text = (good / 'bundle.json').read_text()
    assert len(text.splitlines()) > 10 and 'NaN' not in text


@pytest.fixture(scope='session')
def exported():
    models = [tiny_model(1), tiny_model(2)]
    return models, [inference._export(model, SIZE) for model in models]


@pytest.fixture
def exported_once(exported, monkeypatch):
    "Two networks, each exported a single time however often it is saved."
    models, programs = exported
    monkeypatch.setattr(inference, '_export', lambda model, size: programs[models.index(model)])
    return models


@pytest.mark.parametrize('form', ['bundle', 'bundle.zip'])
def test_a_full_disk_leaves_the_old_bundle(form, exported_once, tmp_path, monkeypatch):
    old, new = exported_once
    path = save_bundle(tmp_path / form, old, VOCAB, SIZE, MEAN, STD, onnx=False)
    before = Predictor(path).predict(smooth())

    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patch, pytest.raises(OSError, match='No space'):
        patch.setattr(os, 'replace', full)
        patch.setattr(os, 'rename', full)
        save_bundle(path, new, VOCAB, SIZE, MEAN, STD, overwrite=True, onnx=False)
    assert Predictor(path).predict(smooth()) == before
    save_bundle(path, new, VOCAB, SIZE, MEAN, STD, overwrite=True, onnx=False)
    assert Predictor(path).predict(smooth()).probs != before.probs
    assert entries(tmp_path) == [form] and (path.is_file() or len(entries(path)) == 3)


def test_old_bundle_can_be_read_while_a_new_one_is_saved(exported_once, tmp_path):
    "Each of many loads, in the middle of saves, gives the one or the other."
    import threading

    path, models = tmp_path / 'b.zip', exported_once
    answers = []
    for model in models:
        save_bundle(path, model, VOCAB, SIZE, MEAN, STD, overwrite=True, onnx=False)
        answers.append(Predictor(path).predict(smooth()).probs)
    done = threading.Event()

    def save_and_save():
        with suppress(Exception):
            for i in range(4):
                save_bundle(path, models[i % 2], VOCAB, SIZE, MEAN, STD, overwrite=True, onnx=False)
        done.set()

    saver = threading.Thread(target=save_and_save)
    saver.start()
    seen = []
    while not done.is_set() or not seen:
        seen.append(Predictor(path).predict(smooth()).probs)
    saver.join()
    assert all(probs in answers for probs in seen)


# A nursery that has imported and exported once forks a saver, kills it, and forks a reader that looks at what is left. Exporting is slow
# and touches no file: it is done once, so that the kills fall into the writing.
NURSERY = """
import itertools, os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_inference as t
import torch
from multilabel_nb import inference
from safetensors.torch import save as as_bytes
torch.set_num_threads(1)
MODELS = [t.tiny_model(1), t.tiny_model(2)]
exported, onnx_files, onnx_file = [inference._export(model, t.SIZE) for model in MODELS], {}, inference._onnx_file
for i, ep in enumerate(exported):
    data = as_bytes(inference._graph_file(ep)[1])
    onnx_files[id(ep)] = onnx_file(ep, data, inference._entry('weights', data)['name'])
inference._export = lambda model, size: exported[MODELS.index(model)]
inference._onnx_file = lambda ep, weights, name: onnx_files[id(ep)]
inference._check_answers = lambda *args: None
EXPECTED = [t.by_hand(model, [t.saved(t.smooth())])[0] for model in MODELS]

def save(i):
    scores = {'model': {'which': float(i)}, 'all-negative': {'which': 0.5}}
    t.save_bundle(path, MODELS[i], t.VOCAB, t.SIZE, t.MEAN, t.STD, scores=scores, overwrite=True)

def forked(work):
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException as e:
        print(f'{type(e).__name__}: {e}', file=sys.stderr, flush=True)
    os._exit(code)

def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def check():
    "Whole, and its answers are those of the network that it names."
    which = int(t.load_manifest(path)['scores']['model']['which'])
    for engine in t.ENGINES:
        found = list(t.Predictor(path, engine=engine).predict(t.smooth()).probs.values())
        assert abs(found - EXPECTED[which]).max() < 1e-4, (which, engine)

def left_over():
    return len(list(path.parent.rglob('*')))

def checked():
    assert wait(forked(check)) == 0
    assert left_over() <= clean + 8, [str(p) for p in path.parent.rglob('*')]

def save_until(last):
    "The n-th time that the saver is about to open, rename, make or remove something beside the bundle is its last."
    seen = 0

    def hook(event, args):
        nonlocal seen
        if event.startswith(('open', 'os.', 'shutil.', 'tempfile.')) and str(path.parent) in str(args):
            seen += 1
            if seen == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    save(last % 2)

def kill_at_random(rng, kills):
    times = []
    for i in (0, 1, 0):
        began = time.perf_counter()
        assert wait(forked(lambda: save(i))) == 0
        times.append(time.perf_counter() - began)
    for _ in range(kills):
        pid = forked(lambda: [save(i % 2) for i in itertools.count()])
        time.sleep(rng.uniform(0, 3 * min(times)))
        os.kill(pid, signal.SIGKILL)
        assert wait(pid) == -signal.SIGKILL
        checked()

def kill_at_each_step():
    for last in range(1, 200):
        code = wait(forked(lambda: save_until(last)))
        checked()
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert 5 < last < 199, last
    print(path.name, 'has', last - 1, 'steps')

for name in ('bundle', 'bundle.zip'):
    path, clean = Path(sys.argv[2]) / name.replace('.', '-') / name, 100
    assert wait(forked(lambda: save(0))) == 0
    checked()
    clean = left_over()
    kill_at_random(random.Random(0), 25)
    kill_at_each_step()
    assert wait(forked(lambda: save(1))) == 0
    checked()
    assert left_over() == clean, [str(p) for p in path.parent.rglob('*')]
print('done')
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, 'fork'), reason='processes are forked')
def test_killed_save_leaves_a_whole_bundle(tmp_path):
    "Fifty kills at random moments, and one at each step of a save."
    command = [sys.executable, '-c', NURSERY, str(ROOT / 'tests'), str(tmp_path)]
    out = subprocess.run(command, capture_output=True, text=True, env={**UTF8, 'OMP_NUM_THREADS': '1'})
    assert out.returncode == 0 and out.stdout.endswith('done\n'), out.stdout + out.stderr
    print(out.stdout)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path):
    "A folder with pictures at two depths, a text and a hidden file."
    folder = tmp_path / 'pictures'
    (folder / 'deeper').mkdir(parents=True)
    for i in range(4):
        (folder / f'{i}.jpg').write_bytes(saved(smooth(i), 'JPEG'))
    (folder / 'deeper' / '5 ä, ";.PNG').write_bytes(saved(smooth(5)))
    (folder / 'notes.txt').write_text('not a picture')
    (folder / '.hidden.jpg').write_bytes(JPG)
    return folder


def command(capsys, *args):
    "Exit code, standard output and standard error of the command, run in this process."
    try:
        code = main([str(a) for a in args])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def in_folder(folder):
    return sorted(str(p) for p in folder.rglob('*') if p.suffix.lower() in {'.jpg', '.png'} and not p.name.startswith('.'))


def test_command_says_what_the_predictor_says(good, pictures, capsys, predictors):
    files = in_folder(pictures)
    expected = predictors['onnx'].predict_many(files)
    code, out, err = command(capsys, good, pictures, '--csv')
    frame = pd.read_csv(io.StringIO(out))
    assert (code, err) == (0, '') and sorted(frame.image) == files
    frame = frame.set_index('image').loc[files].reset_index()
    probs = [f'prob_{label}' for label in VOCAB]
    assert list(frame.columns) == ['image', 'labels', 'error', *probs]
    assert frame.labels.str.split(';').tolist() == expected.labels.tolist() and frame.error.isna().all()
    np.testing.assert_allclose(frame[probs], expected[probs], atol=1e-5)
    code, out, err = command(capsys, good, *files, '--json')
    rows = pd.read_json(io.StringIO(out), lines=True)
    assert (code, err) == (0, '') and rows.image.tolist() == files and rows.labels.tolist() == expected.labels.tolist()
    np.testing.assert_allclose(pd.DataFrame(rows.probs.tolist())[VOCAB], expected[probs], atol=1e-5)
    code, out, err = command(capsys, good, *files)
    lines = dict(line.split('\t') for line in out.splitlines())
    assert (code, err) == (0, '') and list(lines) == files
    assert [re.findall(r'[a-z]+', line) for line in lines.values()] == [
        [label for label in predictors['onnx'].predict(f).present] for f in files
    ]


def test_command_engines_thresholds_and_batches(good, pictures, capsys):
    _, expected, _ = command(capsys, good, pictures, '--csv')
    expected = pd.read_csv(io.StringIO(expected))
    for options in (['--engine', 'torch'], ['--bs', '1'], ['--bs', '2', '--workers', '1'], ['--no-progress']):
        code, out, err = command(capsys, good, pictures, '--csv', *options)
        assert (code, err) == (0, ''), options
        pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(out)), expected, atol=1e-5)
    for options, on in (
        (['--thresh', '0'], {'road', 'water'}),
        (['--thresh', '1'], set()),
        (['--thresh', 'road=0', '--thresh', 'water=1'], {'road'}),
    ):
        code, out, _ = command(capsys, good, pictures, '--csv', *options)
        assert code == 0
        assert all(set(x.split(';')) - set(WEATHER) == on for x in pd.read_csv(io.StringIO(out)).labels), options


def test_command_takes_globs_and_standard_input(good, pictures, capsys, monkeypatch):
    jpegs = [f for f in in_folder(pictures) if f.endswith('.jpg')]
    for args in ([pictures / '*.jpg'], [pictures / '[0-9].jp*']):
        code, out, _ = command(capsys, good, *args, '--csv')
        assert code == 0 and sorted(pd.read_csv(io.StringIO(out)).image) == jpegs
    code, out, _ = command(capsys, good, pictures / '**' / '*.PNG', '--csv')
    assert code == 0 and pd.read_csv(io.StringIO(out)).image.tolist() == [f for f in in_folder(pictures) if f.endswith('.PNG')]
    bracketed = pictures / 'a[1].jpg'
    bracketed.write_bytes(JPG)
    code, out, _ = command(capsys, good, bracketed, '--csv')
    assert code == 0 and pd.read_csv(io.StringIO(out)).image.tolist() == [str(bracketed)]
    for ending in ('\n', '\r\n', '\n\n'):
        monkeypatch.setattr(sys, 'stdin', io.StringIO(ending.join(jpegs) + ending))
        code, out, _ = command(capsys, good, '-', '--csv')
        assert code == 0 and pd.read_csv(io.StringIO(out)).image.tolist() == jpegs, repr(ending)


def test_command_names_what_fails_and_goes_on(good, pictures, capsys):
    (pictures / 'broken.jpg').write_bytes(BAD_FILES['cut.jpg'])
    code, out, err = command(capsys, good, pictures, pictures / 'gone.jpg', pictures / 'notes.txt', '--csv')
    frame = pd.read_csv(io.StringIO(out)).set_index('image')
    failed = [str(pictures / name) for name in ('broken.jpg', 'gone.jpg', 'notes.txt')]
    assert code == 1 and len(frame) == 8
    assert sorted(frame.index[frame.error.notna()]) == sorted(failed)
    assert frame.loc[failed].drop(columns='error').isna().all(axis=None) and frame.drop(failed).drop(columns='error').notna().all(axis=None)
    for name in failed:
        assert name in err
    code, out, _ = command(capsys, good, *failed, '--json')
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 1 and [row['image'] for row in rows] == failed
    assert all(row['error'] and row['labels'] is None and row['probs'] is None for row in rows)


@pytest.mark.parametrize(
    'args, why',
    [
        (['{good}'], 'PATHS|required'),
        (['{tmp}/gone', '{pictures}'], 'gone'),
        (['{pictures}', '{pictures}'], r'bundle\.json'),
        (['{good}', '{empty}'], 'empty'),
        (['{good}', '{tmp}/*.tif'], r'\*\.tif'),
        (['{good}', '{pictures}', '--thresh', '1.5'], 'thresh'),
        (['{good}', '{pictures}', '--thresh', 'snow=.5'], 'snow'),
        (['{good}', '{pictures}', '--thresh', 'road'], 'thresh|road'),
        (['{good}', '{pictures}', '--thresh', 'nan'], 'thresh'),
        (['{good}', '{pictures}', '--engine', 'tensorflow'], 'tensorflow'),
        (['{good}', '{pictures}', '--bs', '0'], 'bs'),
        (['{good}', '{pictures}', '--csv', '--json'], 'not allowed'),
    ],
)
def test_command_refuses_with_2_and_says_why(args, why, good, pictures, tmp_path, capsys):
    (tmp_path / 'empty').mkdir()
    names = {'good': good, 'tmp': tmp_path, 'pictures': pictures, 'empty': tmp_path / 'empty'}
    code, out, err = command(capsys, *(a.format(**names) for a in args))
    assert (code, out) == (2, '') and re.search(why, err) and 'Traceback' not in err


def test_command_helps(capsys):
    code, out, err = command(capsys, '--help')
    assert (code, err) == (0, '') and all(
        word in out for word in ('--csv', '--json', '--thresh', '--engine', 'standard input', 'Exit status')
    )


@pytest.mark.slow
def test_thousand_pictures_twenty_broken(good, tmp_path):
    folder, broken = tmp_path / 'pictures', []
    folder.mkdir()
    bad = list(BAD_FILES.values())
    for i in range(1000):
        file = folder / f'{i:04}.jpg'
        if i % 50 == 7:
            broken.append(str(file))
            file.write_bytes(bad[len(broken) % len(bad)])
        else:
            file.write_bytes(saved(smooth(i), 'JPEG'))
    assert len(broken) == 20
    tables = {}
    for form in ('--csv', '--json'):
        out = subprocess.run([*COMMAND, good, folder, form], capture_output=True, text=True, env=UTF8)
        assert out.returncode == 1 and 'Traceback' not in out.stderr and '\r' not in out.stderr, out.stderr
        assert all(name in out.stderr for name in broken)
        tables[form] = (
            pd.read_csv(io.StringIO(out.stdout))
            if form == '--csv'
            else pd.read_json(io.StringIO(out.stdout), lines=True, dtype={'image': str})
        )
        frame = tables[form]
        assert len(frame) == 1000 and frame.error.isna().sum() == 980 and sorted(frame.image[frame.error.notna()]) == broken
        assert all(name in error for name, error in frame.loc[frame.error.notna(), ['image', 'error']].itertuples(index=False))
    pd.testing.assert_series_equal(tables['--csv'].labels.dropna().str.split(';'), tables['--json'].labels.dropna())


@pytest.mark.slow
def test_one_answer_imports_neither_torch_nor_pandas(good, pictures):
    code = (
        'import sys; from multilabel_nb.inference import Predictor\n'
        f'assert Predictor({str(good)!r}).predict({str(pictures / "0.jpg")!r}).labels\n'
        'print(sorted({"torch", "pandas", "fastai", "matplotlib", "timm", "onnx"} & {m.split(".")[0] for m in sys.modules}))'
    )
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=UTF8)
    assert out.stdout == '[]\n', out.stdout + out.stderr
    torch_alone = code.replace('Predictor(', 'Predictor(engine="torch", path=', 1).replace('"torch", "pandas", ', '"onnxruntime", ')
    out = subprocess.run([sys.executable, '-c', torch_alone], capture_output=True, text=True, env=UTF8)
    assert out.stdout == '[]\n', out.stdout + out.stderr


def on_terminal(command, stdout):
    "What the command writes to a terminal that is its standard error (and its output, unless that goes elsewhere)."
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 100, 0, 0))  # a new one is 0 columns wide
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs if stdout is None else stdout, stderr=theirs, env=UTF8)
    os.close(theirs)
    shown = b''
    with suppress(OSError):  # Linux reports the closed other end so
        while more := os.read(ours, 65536):
            shown += more
    os.close(ours)
    assert process.wait(timeout=60) == 0, shown
    return shown.decode()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == 'win32', reason='no pseudo-terminals')
def test_bar_on_a_terminal_and_none_in_a_pipe(good, pictures, tmp_path):
    command = [*COMMAND, str(good), str(pictures), '--csv']
    out = subprocess.run(command, capture_output=True, text=True, env=UTF8)
    assert (out.returncode, out.stderr) == (0, '') and len(out.stdout.splitlines()) == 6
    with open(tmp_path / 'out.csv', 'wb') as file:
        shown = on_terminal(command, file)
    assert '\r' in shown and '0/5' in shown
    assert (tmp_path / 'out.csv').read_text(encoding='utf-8') == out.stdout
    with open(tmp_path / 'again.csv', 'wb') as file:
        assert on_terminal([*command, '--no-progress'], file) == ''


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == 'win32', reason='needs a shell')
def test_closed_pipe_ends_quietly(good, pictures):
    for i in range(3000):
        os.link(pictures / '0.jpg', pictures / f'copy {i}.jpg')
    for form in ('--csv', '--json', ''):
        line = f'"$@" {form} | head -n 1; exit ${{PIPESTATUS[0]}}'
        out = subprocess.run(
            ['bash', '-c', line, 'bash', *COMMAND, str(good), str(pictures)], capture_output=True, text=True, env=UTF8, timeout=120
        )
        assert out.stderr == '' and len(out.stdout.splitlines()) == 1, out.stderr
        assert out.returncode in (0, 141, -signal.SIGPIPE), out.returncode


@pytest.mark.slow
def test_interrupted_command_says_130(good, pictures):
    for i in range(5000):
        os.link(pictures / '0.jpg', pictures / f'copy {i}.jpg')
    process = subprocess.Popen(
        [*COMMAND, str(good), str(pictures), '--csv', '--bs', '4'],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=UTF8,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell has it ignored, and children inherit that
    )
    assert process.stdout.readline().startswith('image,')
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and 'Traceback' not in err
    assert len(out.splitlines()) < 5000
