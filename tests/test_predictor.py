"""What the library notebook on the predictor cannot show: many kinds of pictures, damaged ones, endless iterators, new processes."""

import io
import re
import subprocess
import sys
import tracemalloc
import weakref
import zipfile
from functools import cache

import numpy as np
import pandas as pd
import pytest
from bundled import BAD_FILES, ENGINES, MEAN, SIZE, STD, THRESH, UTF8, VOCAB, WEATHER, by_hand, each_engine, saved, smooth
from PIL import Image

from multilabel_nb.bundle import save_bundle
from multilabel_nb.bundle_files import BundleError, load_config
from multilabel_nb.predictor import Predictor

# --- answers ----------------------------------------------------------------------------------------------------------


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
    many = predictors[engine].predict_many(kinds, bs=1)
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
    archive = tmp_path / 'moved.zip'
    with zipfile.ZipFile(archive, 'w', zipfile.ZIP_STORED) as made:
        for file in bundle.iterdir():
            made.write(file, file.name)
    moved = bundle.rename(tmp_path / 'other name')
    assert load_config(archive) == load_config(moved) == load_config(str(good))
    for engine in ENGINES:
        expected = predictors[engine].predict(smooth())
        assert Predictor(archive, engine=engine).predict(smooth()) == Predictor(moved, engine=engine).predict(smooth()) == expected


# --- pictures ---------------------------------------------------------------------------------------------------------


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


@pytest.mark.slow
def test_one_answer_imports_neither_torch_nor_pandas(good, tmp_path):
    file = tmp_path / '0.jpg'
    file.write_bytes(saved(smooth(), 'JPEG'))
    code = (
        'import sys; from multilabel_nb.predictor import Predictor\n'
        f'assert Predictor({str(good)!r}).predict({str(file)!r}).labels\n'
        'print(sorted({"torch", "pandas", "fastai", "matplotlib", "timm", "onnx", "safetensors"} & {m.split(".")[0] for m in sys.modules}))'
    )
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=UTF8)
    assert out.stdout == '[]\n', out.stdout + out.stderr
    torch_alone = (
        code.replace('Predictor(', 'Predictor(engine="torch", path=', 1)
        .replace('"torch", "pandas", ', '"onnxruntime", ')
        .replace('"timm", ', '')
        .replace(', "safetensors"', '')
    )
    out = subprocess.run([sys.executable, '-c', torch_alone], capture_output=True, text=True, env=UTF8)
    assert out.stdout == '[]\n', out.stdout + out.stderr


def test_threads_are_those_asked_for(good, monkeypatch):
    "Of onnxruntime a session's own, of torch the process's: in a new one."
    import onnxruntime

    asked, start = [], onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        'InferenceSession',
        lambda graph, options, **rest: asked.append(options.intra_op_num_threads) or start(graph, options, **rest),
    )
    for threads in (1, 3, None):
        Predictor(good, engine='onnx', threads=threads)
    assert asked == [1, 3, 0]
    code = (
        f'import torch; from multilabel_nb import Predictor; Predictor({str(good)!r}, "torch", threads=1); print(torch.get_num_threads())'
    )
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=UTF8).stdout == '1\n'
    with pytest.raises(ValueError, match='threads must be at least 1'):
        Predictor(good, threads=0)


def test_draft_decodes_photographs_smaller_and_nothing_else(good, tmp_path):
    size = load_config(good)['pretrained_cfg']['input_size'][1]
    ramp = np.linspace(0, 255, 4 * size, dtype='uint8')
    large = Image.fromarray(np.stack([ramp[None] + 0 * ramp[:, None], 0 * ramp[None] + ramp[:, None], 0 * np.outer(ramp, ramp)], 2))
    files = {name: tmp_path / name for name in ('large.jpg', 'small.jpg', 'large.png')}
    for name, file in files.items():
        large.resize((3 * size,) * 2 if name == 'small.jpg' else large.size).save(file, quality=90)
    seen = {draft: [Predictor(good, draft=draft).predict(file).probs for file in files.values()] for draft in (False, True)}
    differ = [whole != reduced for whole, reduced in zip(*seen.values(), strict=True)]
    assert differ == [True, False, False]
    for label, prob in seen[False][0].items():
        assert abs(prob - seen[True][0][label]) < 0.02
