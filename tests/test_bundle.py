"""What the library notebooks on bundles cannot show: hostile files, killed saves, many families of networks."""

import io
import json
import os
import pickle
import re
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from contextlib import suppress
from hashlib import sha256

import numpy as np
import pytest
from bundled import BAD_FILES, ENGINES, JPG, MEAN, ROOT, SCORES, SIZE, STD, THRESH, UTF8, VOCAB, by_hand, saved, smooth, tiny_model

from multilabel_nb import bundle as bundle_room
from multilabel_nb.bundle import save_bundle
from multilabel_nb.bundle_files import CONFIG, ONNX, WEIGHTS, BundleError, load_config
from multilabel_nb.choosing import tune_thresholds
from multilabel_nb.decisions import Calibration, Thresholds
from multilabel_nb.engines import unwrap
from multilabel_nb.images import open_rgb
from multilabel_nb.inference import decide, preprocess
from multilabel_nb.predictor import Predictor

# --- hostile bundles --------------------------------------------------------------------------------------------------


class Armed:
    "Unpickled, it writes the file `code ran`."

    def __init__(self, marker):
        self.code = f'open({str(marker)!r}, "w").close()'

    def __reduce__(self):
        return exec, (self.code,)


def read_json(folder):
    return json.loads((folder / CONFIG).read_text())


def write_json(folder, config):
    (folder / CONFIG).write_text(config if isinstance(config, str) else json.dumps(config))


def field(name, value):
    "A damage: one field of config.json says something else; `...` removes it."

    def damage(folder):
        config = read_json(folder)
        at = config
        *parents, last = name.split('/')
        for parent in parents:
            at = at[parent]
        if value is ...:
            del at[last]
        else:
            at[last] = value(at[last]) if callable(value) else value
        write_json(folder, config)

    return damage


def in_files(file, /, **entry):
    "A damage: config.json says this of a file."
    return field('files', lambda files: files | {file: {**files.get(file, {}), **entry}})


def relabelled(vocab):
    "A damage that only the network can tell: another number of labels, everywhere."

    def damage(folder):
        for name, value in (('label_names', vocab), ('num_classes', len(vocab)), ('thresholds', [0.5] * len(vocab))):
            field(name, value)(folder)

    return damage


def rewrite(text):
    "A damage: config.json holds this text, or what a function makes of its own."

    def damage(folder):
        old = (folder / CONFIG).read_text()
        new = text(old) if callable(text) else text
        assert new != old
        (folder / CONFIG).write_bytes(new if isinstance(new, bytes) else new.encode())

    return damage


def replaced(name, make, redigest=True):
    "A damage: other bytes in the place of a file; size and digest made to fit them, unless told otherwise."

    def damage(folder):
        old = (folder / name).read_bytes()
        data = make(folder) if not isinstance(make, bytes) else make
        assert data != old
        (folder / name).write_bytes(data)
        if redigest:
            entry = {'bytes': len(data), 'sha256': sha256(data).hexdigest()}
            field('files', lambda files: files | {name: entry})(folder)

    return damage


def bytes_of(name, change):
    return lambda folder: change((folder / name).read_bytes())


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

        held = load((folder / WEIGHTS).read_bytes())
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


def onnx_pointing_at(where):
    "The ONNX graph, its numbers said to lie elsewhere."

    def change(proto):
        import onnx

        for tensor in proto.graph.initializer:
            tensor.ClearField('raw_data')
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, entry in (('location', where), ('offset', '0')):
                tensor.external_data.add(key=key, value=entry)

    return onnx_with(change)


def onnx_with(change):
    def make(folder):
        import onnx

        proto = onnx.load(folder / ONNX)
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
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to('/dev/zero')


def to_pipe(folder):
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)


def to_folder(folder):
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()


def to_file(folder):
    shutil.rmtree(folder)
    folder.write_text('I am a file.')


def emptied(folder):
    shutil.rmtree(folder)
    folder.mkdir()


HEADER = struct.Struct('<Q')
DEEP = '[' * 100_000 + ']' * 100_000
FIELDS = {  # what is wrong -> (damage, what the error must say)
    'json is a pickle': (lambda f: (f / CONFIG).write_bytes(armed(f)), r'config\.json'),
    'json is empty': (rewrite(''), r'config\.json'),
    'json is cut': (rewrite(lambda t: t[: len(t) // 2]), r'config\.json'),
    'json is a list': (rewrite('[]'), r'config\.json.*object'),
    'json is a number': (rewrite('1'), r'config\.json.*object'),
    'json is deep': (rewrite(DEEP), r'config\.json'),
    'a deep field': (rewrite(lambda t: t.replace('"scores"', f'"scores": {DEEP}, "_"', 1)), r'config\.json'),
    'json is huge': (rewrite(lambda t: t + ' ' * 9_000_000), r'config\.json.*(large|MiB|bytes)'),
    'json is not utf-8': (rewrite(b'\xff\xfe{}'), r'config\.json'),
    'json names a field twice': (
        rewrite(lambda t: t.replace('"scores"', '"scores": 64, "scores"', 1)),
        r'config\.json.*scores.*twice|twice.*scores',
    ),
    'json holds an endless number': (
        rewrite(lambda t: t.replace('"num_classes": 5', '"num_classes": ' + '9' * 5000)),
        r'config\.json|num_classes',
    ),
    'unknown field': (field('colour', 'red'), 'colour'),
    'another format': (field('format', 'a pie'), 'format'),
    'newer version': (field('format_version', 4), r'format_version.*3.*newer.*not 4'),
    'older version': (field('format_version', 1), r'format_version.*2.*not 1'),
    'version missing': (field('format_version', ...), 'format_version'),
    'version is text': (field('format_version', '1'), 'format_version'),
    'version is true': (field('format_version', True), 'format_version'),
    'version is 0': (field('format_version', 0), 'format_version'),
    'vocab missing': (field('label_names', ...), 'label_names'),
    'vocab is short': (field('label_names', VOCAB[:3]), 'vocab|thresholds|labels'),
    'vocab and thresholds are short': (relabelled(VOCAB[:4]), 'label|weights'),
    'vocab is long': (relabelled([*VOCAB, 'z']), 'label|weights'),
    'vocab is empty': (field('label_names', []), 'label_names'),
    'vocab names a label twice': (field('label_names', [*VOCAB[:4], 'clear']), 'vocab.*clear'),
    'vocab of numbers': (field('label_names', [1, 2, 3, 4, 5]), 'label_names'),
    'vocab has an empty name': (field('label_names', ['', *VOCAB[1:]]), 'label_names'),
    'vocab is text': (field('label_names', 'abcde'), 'label_names'),
    'vocab is an object': (field('label_names', dict.fromkeys(VOCAB, 1)), 'label_names'),
    'thresholds missing': (field('thresholds', ...), 'thresholds'),
    'thresholds too few': (field('thresholds', [0.5] * 4), 'thresholds'),
    'thresholds above 1': (field('thresholds', [0.5] * 4 + [1.5]), 'thresholds'),
    'thresholds below 0': (field('thresholds', [0.5] * 4 + [-0.1]), 'thresholds'),
    'thresholds not a number': (field('thresholds', [0.5] * 4 + [float('nan')]), r'NaN|thresholds'),
    'thresholds null': (field('thresholds', [0.5] * 4 + [None]), 'thresholds'),
    'thresholds of text': (field('thresholds', ['0.5'] * 5), 'thresholds'),
    'thresholds of truths': (field('thresholds', [True] * 5), 'thresholds'),
    'mean of two': (field('pretrained_cfg/mean', [0.5, 0.5]), 'mean'),
    'mean of text': (field('pretrained_cfg/mean', ['a', 'b', 'c']), 'mean'),
    'mean endless': (field('pretrained_cfg/mean', [0.5, 0.5, float('inf')]), 'mean|Infinity'),
    'mean of four hundred digits': (rewrite(lambda t: re.sub(r'"mean":\s*\[\s*0\.4', '"mean": [1' + 400 * '0', t)), 'mean'),
    'mean by 1e999': (rewrite(lambda t: re.sub(r'"mean":\s*\[\s*0\.4', '"mean": [1e999', t)), 'mean'),
    'std zero': (field('pretrained_cfg/std', [0.5, 0, 0.5]), 'std'),
    'std negative': (field('pretrained_cfg/std', [0.5, 0.5, -0.5]), 'std'),
    'std of one': (field('pretrained_cfg/std', 0.5), 'std'),
    'std so small that all overflows': (field('pretrained_cfg/std', [1e-300] * 3), 'std'),
    'size 0': (field('pretrained_cfg/input_size', [3, 0, 0]), 'size'),
    'size negative': (field('pretrained_cfg/input_size', [3, -32, -32]), 'size'),
    'size is text': (field('pretrained_cfg/input_size', [3, '32', '32']), 'size'),
    'size is a fraction': (field('pretrained_cfg/input_size', [3, 32.5, 32.5]), 'size'),
    'size is true': (field('pretrained_cfg/input_size', [3, True, True]), 'size'),
    'size of a billion': (field('pretrained_cfg/input_size', [3, 10**9, 10**9]), 'size'),
    'size missing': (field('pretrained_cfg/input_size', ...), 'input_size'),
    'size of a strip': (field('pretrained_cfg/input_size', [3, 32, 64]), 'input_size'),
    'size of one channel': (field('pretrained_cfg/input_size', [1, 32, 32]), 'input_size'),
    'unknown resize rule': (field('pretrained_cfg/crop_mode', 'center'), 'crop_mode'),
    'resize rule missing': (field('pretrained_cfg/crop_mode', ...), 'crop_mode'),
    'cropped': (field('pretrained_cfg/crop_pct', 0.875), 'crop_pct'),
    'another filter': (field('pretrained_cfg/interpolation', 'bicubic'), 'interpolation'),
    'no preparation': (field('pretrained_cfg', None), 'pretrained_cfg'),
    'count of labels is another': (field('num_classes', 4), 'label_names.*4'),
    'count of labels is absurd': (field('num_classes', 10**12), 'num_classes'),
    'arguments are a list': (field('model_args', []), 'model_args'),
    'arguments that fill a machine': (field('model_args', {'depth': 10**9}), 'model_args'),
    'architecture is no name': (field('architecture', ['resnet18']), 'architecture'),
    'calibration for another number of labels': (field('calibration', {'scale': [1.0], 'shift': [0.0]}), 'calibration'),
    'calibration of text': (field('calibration', {'scale': ['1'] * 5, 'shift': [0] * 5}), 'calibration'),
    'calibration without shift': (field('calibration', {'scale': [1.0] * 5}), 'calibration'),
    'exclusive names an unknown label': (field('exclusive', [['clear', 'snow']]), 'exclusive.*snow|snow.*exclusive'),
    'exclusive names a label twice': (field('exclusive', [['clear', 'clear']]), 'exclusive.*clear|clear.*exclusive'),
    'a label in two exclusive groups': (field('exclusive', [['clear', 'haze'], ['haze', 'road']]), 'exclusive.*haze|haze.*exclusive'),
    'exclusive is flat': (field('exclusive', ['clear', 'haze']), 'exclusive'),
    'exclusive of numbers': (field('exclusive', [[0, 1]]), 'exclusive'),
    'exclusive of one': (field('exclusive', [['clear']]), 'exclusive'),
    'at_most_one names an unknown label': (field('at_most_one', [['road', 'snow']]), 'at_most_one.*snow'),
    'at_most_one shares a label with exclusive': (field('at_most_one', [['clear', 'road']]), 'at_most_one.*clear'),
    'at_most_one is flat': (field('at_most_one', ['road', 'water']), 'at_most_one must'),
    'at_most_one missing': (field('at_most_one', ...), 'at_most_one'),
    'at_most is 0': (field('at_most', 0), 'at_most must'),
    'at_most is true': (field('at_most', True), 'at_most must'),
    'at_most missing': (field('at_most', ...), 'at_most'),
    'at_least is a fraction': (field('at_least', 0.5), 'at_least must'),
    'at_least is more than there are': (field('at_least', 4), 'at_least must lie'),
    'at_least missing': (field('at_least', ...), 'at_least'),
    'implies names an unknown label': (field('implies', [['road', 'snow']]), 'implies.*snow'),
    'implies goes round': (field('implies', [['road', 'water'], ['water', 'road']]), 'implies.*circle'),
    'implies is flat': (field('implies', ['road', 'water']), 'implies must'),
    'implies a label of an exclusive group': (field('implies', [['road', 'clear']]), 'implies.*exclusive'),
    'implies missing': (field('implies', ...), 'implies'),
    'tuning is a list': (field('tuning', []), 'tuning'),
    'tuning of text': (field('tuning', {'settings': 'f1', 'scores': {}}), 'tuning'),
    'tuning of something else': (field('tuning', {'vocab': {}}), 'tuning|rules'),
    'tuning missing': (field('tuning', ...), 'tuning'),
    'data digest is no digest': (field('data_sha256', 'abc'), 'data_sha256'),
    'scores are a list': (field('scores', [1]), 'scores'),
    'scores without a baseline': (field('scores', {'model': {'mAP': 1.0}}), 'scores'),
    'scores of text': (field('scores', {'model': {'mAP': 'good'}, 'all-negative': {'mAP': 0}}), 'scores'),
    'versions are a list': (field('versions', []), 'versions'),
    'files missing': (field('files', ...), 'files'),
    'files are a list': (field('files', []), 'files'),
    'files name no weights': (field(f'files/{WEIGHTS}', ...), 'safetensors'),
    'files name an unknown one': (in_files('code.py', bytes=1, sha256='0' * 64), 'code'),
    'file name climbs': (in_files(f'../{ONNX}', bytes=1, sha256='0' * 64), 'files must be'),
    'file name is absolute': (in_files('/etc/hostname', bytes=1, sha256='0' * 64), 'files must be'),
    'file name is that of the json': (in_files(CONFIG, bytes=1, sha256='0' * 64), 'files must be'),
    'file has a name of its own': (in_files(WEIGHTS, name='../a'), 'files must be'),
    'digest missing': (field(f'files/{WEIGHTS}/sha256', ...), 'sha256'),
    'digest is short': (field(f'files/{WEIGHTS}/sha256', 'abc'), 'safetensors'),
    'digest is a number': (field(f'files/{WEIGHTS}/sha256', 7), 'safetensors'),
    'length is text': (field(f'files/{WEIGHTS}/bytes', '9'), 'safetensors'),
    'length is negative': (field(f'files/{WEIGHTS}/bytes', -1), 'safetensors'),
}
FILES = {  # the engines that must notice, what is wrong -> (damage, what the error must say)
    'digest of other bytes': ('torch', field(f'files/{WEIGHTS}/sha256', lambda old: old[:12] + '0' * 52), 'safetensors'),
    'length is wrong': ('torch', field(f'files/{WEIGHTS}/bytes', 5), 'safetensors'),
    'weights are a pickle': ('torch', replaced(WEIGHTS, armed), 'weights|safetensors'),
    'weights are a pickle of torch': ('torch', replaced(WEIGHTS, armed_torch), 'weights|safetensors'),
    'weights are a pickle, digest of the old': ('torch', replaced(WEIGHTS, armed, redigest=False), 'weights|safetensors'),
    'one bit of the weights': (
        'torch',
        replaced(WEIGHTS, bytes_of(WEIGHTS, lambda b: b[:-1] + bytes([b[-1] ^ 1])), redigest=False),
        r'safetensors.*SHA-256',
    ),
    'weights are cut': ('torch', replaced(WEIGHTS, bytes_of(WEIGHTS, lambda b: b[:-100]), redigest=False), 'weights|safetensors'),
    'weights are cut, digest made to fit': (
        'torch',
        replaced(WEIGHTS, bytes_of(WEIGHTS, lambda b: b[: len(b) // 2])),
        'weights|safetensors',
    ),
    'weights are empty': ('torch', replaced(WEIGHTS, b''), 'weights|safetensors'),
    'header of absurd length': (
        'torch',
        replaced(WEIGHTS, bytes_of(WEIGHTS, lambda b: HEADER.pack(2**63 - 1) + b[8:])),
        'weights|safetensors',
    ),
    'header longer than the file': ('torch', replaced(WEIGHTS, bytes_of(WEIGHTS, lambda b: HEADER.pack(len(b) * 2) + b[8:])), 'weights'),
    'header is deep': ('torch', replaced(WEIGHTS, HEADER.pack(len(DEEP)) + DEEP.encode()), 'weights|safetensors'),
    'weights of another shape': ('torch', replaced(WEIGHTS, tensors(reshaped)), 'weights|shape'),
    'a weight is missing': ('torch', replaced(WEIGHTS, tensors(lambda held: held.pop(a_big_tensor(held)))), 'weights|safetensors'),
    'weights that are not finite': ('torch', replaced(WEIGHTS, tensors(filled(np.nan))), 'weights|finite|nan'),
    'weights are missing': ('torch', lambda f: (f / WEIGHTS).unlink(), 'weights|safetensors'),
    'weights are a folder': ('torch', to_folder, 'weights|safetensors'),
    'weights are a link to an endless device': ('torch', to_endless_device, 'weights|safetensors'),
    'weights are a pipe': ('torch', to_pipe, 'weights|safetensors'),
    'onnx is a pickle': ('onnx', replaced(ONNX, armed), 'onnx'),
    'onnx is missing': ('onnx', lambda f: (f / ONNX).unlink(), 'onnx'),
    'onnx is cut': ('onnx', replaced(ONNX, bytes_of(ONNX, lambda b: b[: len(b) // 2])), 'onnx'),
    'onnx of another digest': ('onnx', replaced(ONNX, b'onnx', redigest=False), 'onnx'),
    'onnx is empty': ('onnx', replaced(ONNX, b''), 'onnx'),
    'onnx reads a file of the system': ('onnx', replaced(ONNX, onnx_pointing_at('/etc/hostname')), 'onnx'),
    'onnx reads a file above': ('onnx', replaced(ONNX, onnx_pointing_at('../elsewhere')), 'onnx'),
    'onnx reads a file of the current folder': ('onnx', replaced(ONNX, onnx_with(hidden_reader)), 'onnx'),
    'onnx answers more columns': ('onnx', replaced(ONNX, onnx_with(another_output)), 'onnx|vocab|labels'),
    'onnx asks for another size': ('onnx', replaced(ONNX, onnx_with(another_input)), 'onnx|size'),
    'json is missing': ('onnx torch', lambda f: (f / CONFIG).unlink(), r'config\.json'),
    'folder is empty': ('onnx torch', emptied, r'config\.json'),
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
    config = load_config(bundle)
    assert config['label_names'] == VOCAB and config['scores'] == SCORES and config['thresholds'] == THRESH
    for engine in ENGINES:
        assert Predictor(bundle, engine=engine).vocab == VOCAB


def test_a_bundle_of_version_2_is_read(bundle, predictors):
    """It has no rule but `exclusive`, and decides as it did."""
    config = read_json(bundle)
    since = {'at_most', 'at_most_one', 'at_least', 'implies', 'tuning', 'reference'}
    write_json(bundle, {k: v for k, v in config.items() if k not in since} | {'format_version': 2})
    assert load_config(bundle) == config and config['exclusive'] == [VOCAB[:3]]
    for engine in ENGINES:
        found, known = (p.predict(smooth()) for p in (Predictor(bundle, engine=engine), predictors[engine]))
        assert found == known


RULES = {
    'exclusive': {'exclusive': [['cloudy', 'road']]},
    'at_most_one': {'at_most_one': [['clear', 'water'], ['haze', 'road']]},
    'at_most': {'at_most': 2},
    'at_least': {'at_least': 3},
    'implies': {'implies': [['clear', 'cloudy', 'haze'], ['road', 'haze']]},
    'one implies several': {'implies': [['haze', 'clear'], ['haze', 'water']], 'exclusive': [['cloudy', 'road']]},
}


@pytest.mark.parametrize('what', RULES)
def test_each_rule_in_a_bundle_is_obeyed_by_both_engines(what, bundle, tmp_path):
    pictures = [smooth(i) for i in range(12)]
    for name, value in ({'exclusive': []} | RULES[what]).items():
        field(name, value)(bundle)
    stored = Thresholds(VOCAB, THRESH, **RULES[what])
    free, changed = Thresholds(VOCAB, THRESH), 0
    for engine in ENGINES:
        table = Predictor(bundle, engine=engine).predict_many(pictures)
        probs = table[[f'prob_{label}' for label in VOCAB]].to_numpy()
        assert table.labels.tolist() == stored.decide(probs) == decide(probs, VOCAB, THRESH, **RULES[what])
        changed += table.labels.tolist() != free.decide(probs)
    assert changed == 2, 'the rule changes nothing here'
    for i in range(2):
        (tmp_path / f'{i}.png').write_bytes(saved(pictures[i]))
    images = [str(tmp_path / f'{i}.png') for i in range(2)]
    command = [sys.executable, '-m', 'multilabel_nb.command', str(bundle), *images, '--json']
    said = subprocess.run(command, capture_output=True, text=True, env=UTF8, check=True).stdout
    assert [json.loads(line)['labels'] for line in said.splitlines()] == Predictor(bundle).predict_many(pictures[:2]).labels.tolist()


@pytest.mark.parametrize('form', ['tuned', 'stored'])
def test_what_was_tuned_goes_into_a_bundle_whole(form, model, tmp_path):
    """Values, calibration, rules, scores and settings; in the order of the network's labels, whatever it was where they were tuned."""
    rng, names = np.random.default_rng(0), VOCAB[::-1]
    probs, targs = rng.random((80, 5)), rng.random((80, 5)) < 0.4
    rules = {'at_most_one': [['road', 'water']], 'implies': [['clear', 'haze'], ['cloudy', 'haze']]}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        tuned = tune_thresholds(probs, targs, 'cost', vocab=names, fn_cost=[5, 4, 3, 2, 1], calibrate='platt', **rules)
    given = tuned if form == 'tuned' else tuned.stored()
    path = save_bundle(tmp_path / 'bundle', model, VOCAB, SIZE, MEAN, STD, thresh=given, onnx=False)
    config, predictor, stored = load_config(path), Predictor(path), tuned.stored()
    assert config['label_names'] == VOCAB and config['thresholds'] == stored.thresh[::-1]
    assert config['calibration'] == {key: x[::-1] for key, x in stored.calibration.items()}
    assert {name: config[name] for name in stored.rules} == stored.rules
    assert predictor.thresholds.rules == Thresholds(VOCAB, 0.5, **stored.rules).rules
    assert config['tuning'] == {'settings': stored.settings, 'scores': stored.scores}
    assert predictor.thresholds.scores['cost'] == tuned.cross_fitted
    pictures = [smooth(i) for i in range(12)]
    raw = by_hand(model, [saved(p) for p in pictures])[:, ::-1]
    found = predictor.predict_many(pictures).labels
    assert list(map(set, found)) == list(map(set, stored.decide(raw)))
    for wrong in ({'exclusive': [['clear', 'haze']]}, {'calibration': Calibration(np.ones(5), np.zeros(5))}):
        with pytest.raises(ValueError, match='brings its own'):
            save_bundle(tmp_path / 'b', model, VOCAB, SIZE, MEAN, STD, thresh=given, onnx=False, **wrong)
    with pytest.raises(ValueError, match="other labels than vocab: 'clear' is in one"):
        save_bundle(tmp_path / 'b', model, ['fog', *VOCAB[1:]], SIZE, MEAN, STD, thresh=given, onnx=False)


def test_links_to_the_files_and_files_beside_them_do_no_harm(bundle, tmp_path, predictors):
    "Caches of downloads link to their contents; a system leaves its own files in a folder. What config.json does not name is not read."
    for name in (CONFIG, WEIGHTS, ONNX):
        (bundle / name).rename(tmp_path / name)
        (bundle / name).symlink_to(tmp_path / name)
    (bundle / '.DS_Store').write_bytes(armed(bundle))
    (bundle / 'weights.pkl').write_bytes(armed(bundle))
    for engine in ENGINES:
        assert Predictor(bundle, engine=engine).predict(smooth()) == predictors[engine].predict(smooth())
    assert not (tmp_path / 'code ran').exists()


@pytest.mark.parametrize('what', FIELDS)
def test_wrong_config_is_refused(what, bundle):
    damage, match = FIELDS[what]
    damage(bundle)
    if 'vocab and' not in what and what != 'vocab is long':  # only the network can tell
        with pytest.raises(BundleError):
            load_config(bundle)
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
    name = WEIGHTS
    (folder / WEIGHTS).unlink()
    zipped(folder, path)
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, 'a') as archive:
        archive.writestr(info, '/etc/hostname')


def twice(folder, path):
    zipped(folder, path)
    with zipfile.ZipFile(path, 'a') as archive, pytest.warns(UserWarning, match='Duplicate'):
        archive.writestr('config.json', '{}')


def bomb(folder, path):
    "A hundred kB that unpack to a hundred MB."
    config = read_json(folder)
    zeros = bytes(100_000_000)
    (folder / WEIGHTS).unlink()
    digest = sha256(zeros).hexdigest()
    config['files'][WEIGHTS] = {'bytes': len(zeros), 'sha256': digest}
    write_json(folder, config)
    zipped(folder, path, compression=zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path, 'a', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(WEIGHTS, zeros)
    assert path.stat().st_size < 1_000_000


def small_claim(folder, path):
    "A member that claims a hundred bytes and unpacks to a hundred MB."
    bomb(folder, path)
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack('<I', 100_000_000), struct.pack('<I', 100)))


def huge_claim(folder, path):
    "A stored member that claims four GB."
    zipped(folder, path)
    size = struct.pack('<I', (folder / WEIGHTS).stat().st_size)
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
    at = data.find((folder / WEIGHTS).read_bytes()[-40:])
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
    'symbolic link': (linked, 'safetensors'),
    'duplicate member': (twice, r'config\.json.*twice|twice.*config\.json'),
    'bomb': (bomb, 'compressed|stored'),
    'bomb that claims to be small': (small_claim, ''),
    'compressed': (lambda f, p: zipped(f, p, compression=zipfile.ZIP_DEFLATED), 'compressed|stored'),
    'member that claims four GB': (huge_claim, ''),
    'overlapping members': (overlapping, ''),
    'encrypted': (locked, ''),
    'one bit of the weights': (flipped, 'safetensors'),
    'cut in the middle': (shortened(0.5), 'zip|archive'),
    'cut at the end': (shortened(0.99), 'zip|archive'),
    'no bytes': (lambda f, p: p.write_bytes(b''), 'zip|archive'),
    'a text': (lambda f, p: p.write_text('I am no archive.'), 'zip|archive'),
    'a pickle': (lambda f, p: p.write_bytes(armed(f)), 'zip|archive'),
    'a pickle of torch': (lambda f, p: p.write_bytes(armed_torch(f)), ''),
    'an archive of nothing': (lambda f, p: zipfile.ZipFile(p, 'w').close(), r'config\.json'),
    'an archive of the folder': (lambda f, p: zipped(f, p, lambda name: f'bundle/{name}'), r'config\.json|bundle/'),
    'without its weights': (lambda f, p: ((f / WEIGHTS).unlink(), zipped(f, p)), 'safetensors'),
    'a folder of that name': (lambda f, p: p.mkdir(), r'config\.json|folder'),
    'nothing there': (lambda f, p: None, ''),
}


NOT_OF_ONNX = 'one bit of the weights', 'without its weights', 'overlapping members'  # its numbers lie in its own file


@pytest.mark.parametrize('what', ARCHIVES)
def test_wrong_archive_is_refused(what, bundle, tmp_path):
    make, match = ARCHIVES[what]
    path = tmp_path / 'inner' / 'hostile.zip'
    path.parent.mkdir()
    make(bundle, path)
    before = sorted(tmp_path.rglob('*'))
    tracemalloc.start()
    refused(path, match, ['torch'] if what in NOT_OF_ONNX else ENGINES)
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
    'exclusive is flat': ({'exclusive': ['clear', 'haze']}, 'each group is a list'),
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
    broken.get_classifier().weight.data[0] = float('nan')
    with pytest.raises(ValueError, match='gives nan or inf'):
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
    model.bn2.eval()
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
    assert sum(f.stat().st_size for f in good.iterdir()) < 1e6
    text = (good / 'config.json').read_text()
    assert len(text.splitlines()) > 10 and 'NaN' not in text


@pytest.fixture(scope='session')
def two_models():
    return [tiny_model(1), tiny_model(2)]


@pytest.mark.parametrize('form', ['bundle', 'bundle.zip'])
def test_a_full_disk_leaves_the_old_bundle(form, two_models, tmp_path, monkeypatch):
    old, new = two_models
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
    assert entries(tmp_path) == [form] and (path.is_file() or entries(path) == [CONFIG, WEIGHTS])


@pytest.mark.parametrize('form', ['bundle', 'bundle.zip'])
def test_old_bundle_can_be_read_while_a_new_one_is_saved(form, two_models, tmp_path):
    "Each of many loads, in the middle of saves, gives the one or the other."
    import threading

    path, models = tmp_path / form, two_models
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


# --- which networks ---------------------------------------------------------------------------------------------------


def varied(net, size):
    "Weights and statistics under which the logits differ from picture to picture, as after training."
    import torch
    from torch import nn

    torch.manual_seed(0)
    for weight in net.parameters():
        if weight.ndim > 1:
            nn.init.kaiming_normal_(weight)
    for layer in net.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = None  # the mean of all batches, and there is one
    with torch.no_grad():
        net.train()(torch.randn(8, 3, size, size))
    return net.eval()


def of_timm(name, **args):
    import timm

    return timm.create_model(name, num_classes=3, **args)


def on_backbone(name, kind='probe', levels=False, **args):
    from torch import nn

    from multilabel_nb import backbones, heads

    body = backbones.load_backbone(name, pretrained=False, **args)
    body = heads.MultiLevelFeatures(body) if levels else body
    head = {'probe': heads.ProbeHead, 'mlp': heads.MLPHead}[kind]
    return nn.Sequential(body, head(widths(body), 3))


def joined(*names, **how):
    from torch import nn

    from multilabel_nb import backbones, heads

    bodies = [heads.MultiLevelFeatures(backbones.load_backbone(name, pretrained=False)) for name in names]
    body = heads.JoinedFeatures(bodies, **how)
    return nn.Sequential(body, heads.ProbeHead(widths(body), 3))


def widths(body):
    import torch

    with torch.no_grad():
        return body.eval()(torch.zeros(1, 3, 224, 224)).shape[1]


TWO = ('tf_efficientnet_lite0', 'tf_efficientnet_lite2')
QUICK = {  # a function that makes the network, the side of its pictures
    'test_vit': (lambda: of_timm('test_vit', img_size=32), 32),
    'resnet18, probe': (lambda: on_backbone('resnet18'), 64),
    'two bodies, two views, probe': (lambda: joined('resnet18', 'mobilenetv3_small_050', views=2), 64),
    'two bodies, two views, roots, probe': (lambda: joined('resnet18', 'mobilenetv3_small_050', views=2, root=True), 64),
}
FAMILIES = {
    'test_convnext': (lambda: of_timm('test_convnext'), 32),
    'resnet18': (lambda: of_timm('resnet18'), 64),
    'tf_efficientnet_lite0': (lambda: of_timm('tf_efficientnet_lite0'), 64),
    'mobilenetv3_small_050': (lambda: of_timm('mobilenetv3_small_050'), 64),
    'convnext_atto': (lambda: of_timm('convnext_atto'), 64),
    'vit_tiny_patch16_224': (lambda: of_timm('vit_tiny_patch16_224', img_size=64), 64),
    'deit_tiny_patch16_224': (lambda: of_timm('deit_tiny_patch16_224', img_size=64), 64),
    'swin_tiny_patch4_window7_224': (lambda: of_timm('swin_tiny_patch4_window7_224', img_size=64), 64),
    'regnety_002': (lambda: of_timm('regnety_002'), 64),
    'densenet121': (lambda: of_timm('densenet121'), 64),
    'ghostnet_050': (lambda: of_timm('ghostnet_050'), 64),
    'mixer_s32_224': (lambda: of_timm('mixer_s32_224', img_size=64), 64),
    'poolformer_s12': (lambda: of_timm('poolformer_s12'), 64),
    'xception41': (lambda: of_timm('xception41'), 64),
    'resnet34, two layers': (lambda: on_backbone('resnet34', 'mlp'), 64),
    'tf_efficientnet_lite0, all levels': (lambda: on_backbone('tf_efficientnet_lite0', 'probe', levels=True), 64),
    'mobilenet_v2 of torchvision': (lambda: on_backbone('mobilenet_v2', 'mlp'), 64),
    'shufflenet_v2_x0_5 of torchvision': (lambda: on_backbone('shufflenet_v2_x0_5'), 64),
    'mnasnet0_5 of torchvision': (lambda: on_backbone('mnasnet0_5'), 64),
    'squeezenet1_1 of torchvision': (lambda: on_backbone('squeezenet1_1'), 64),
    'swin_tiny, probe': (lambda: on_backbone('swin_tiny_patch4_window7_224'), 224),
    'vit_tiny, two layers': (lambda: on_backbone('vit_tiny_patch16_224', 'mlp'), 224),
}


def bundled_alike(net, size, path, vocab=('a', 'b', 'c')):
    "Both engines say what the network says, within 1e-4, with the same labels."
    import torch

    save_bundle(path, net.eval(), vocab, size, MEAN, STD, progress=False)
    pictures = [smooth(i, 80, 70) for i in range(4)]
    batch = np.stack([preprocess(open_rgb(picture), size, MEAN, STD) for picture in pictures])
    with torch.inference_mode():
        expected = net(torch.from_numpy(batch)).sigmoid().numpy()
    assert np.ptp(expected, axis=0).max() > 1e-3, 'it says the same of every picture'
    assert load_config(path)['network'], 'torch does not know its name'
    for engine in ENGINES:
        answers = list(Predictor(path, engine).iter(pictures, bs=3))
        np.testing.assert_allclose([list(p.probs.values()) for p in answers], expected, atol=1e-4)
        assert [p.labels for p in answers] == decide(expected, vocab), engine


@pytest.mark.parametrize('name', QUICK)
def test_network_is_bundled(name, tmp_path):
    make, size = QUICK[name]
    bundled_alike(varied(make(), size), size, tmp_path / 'bundle')


@pytest.mark.slow
def test_a_network_that_torch_really_compiled_is_unwrapped():
    import torch

    net = pooled()
    assert unwrap(torch.compile(torch.nn.DataParallel(torch.compile(net)))) is net


@pytest.fixture(scope='module')
def few():
    "Loaders of a few tiles."
    import torch

    from multilabel_nb import datasets, readers, sources, splits, tables

    src = sources.planet_sample()
    df = readers.read_labels(src / 'labels.csv', verbose=False)[:64]
    vocab = tables.build_vocab(df, range(len(df)), verbose=False)
    dsets = datasets.multilabel_datasets(df, src / 'train', vocab, splits.random_split(len(df)))
    return datasets.multilabel_dataloaders(dsets, size=64, bs=16, mean=MEAN, std=STD, augment=False, device=torch.device('cpu'))


@pytest.mark.slow
@pytest.mark.parametrize('made', ['by default', 'resnet18', 'a probe', 'a probe on all levels', 'two networks, four views'])
def test_what_this_library_makes_is_bundled(made, few, tmp_path):
    from multilabel_nb import training

    make = {
        'by default': lambda: training.multilabel_learner(few).model,
        'resnet18': lambda: training.multilabel_learner(few, 'resnet18', pretrained=False).model,
        'a probe': lambda: training.train_probe(few),
        'a probe on all levels': lambda: training.train_probe(few, levels=True),
        'two networks, four views': lambda: training.train_probe(few, TWO, levels=True, views=4),
    }
    bundled_alike(make[made](), 64, tmp_path / 'bundle', few.vocab)
    assert load_config(tmp_path / 'bundle')['network']


@pytest.mark.slow
@pytest.mark.parametrize('how', [{}, {'arch': TWO, 'levels': True, 'views': 2, 'root': True}])
def test_a_probe_on_features_from_onnxruntime_is_the_same(how, few):
    import torch

    from multilabel_nb.training import train_probe

    (images, _), nets = few.one_batch(), [train_probe(few, engine=engine, **how) for engine in ('torch', 'onnx')]
    with torch.inference_mode():
        torch.testing.assert_close(*(net(images.as_subclass(torch.Tensor)) for net in nets), atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="not 'tensorrt'"):
        train_probe(few, engine='tensorrt')


@pytest.mark.slow
@pytest.mark.many(3)
@pytest.mark.parametrize('name', FAMILIES)
def test_family_is_bundled(name, tmp_path):
    make, size = FAMILIES[name]
    bundled_alike(varied(make(), size), size, tmp_path / 'bundle')


@pytest.mark.slow
@pytest.mark.parametrize('name', [name for name in FAMILIES if '_' in name and ',' not in name and 'of ' not in name])
def test_timm_reads_the_folder(name, tmp_path):
    "Its own parser, its own factory, the same logits; and its own transform prepares a picture as ours does."
    import timm
    import torch

    make, size = FAMILIES[name]
    net = varied(make(), size)
    save_bundle(tmp_path / 'bundle', net, list('abc'), size, MEAN, STD, onnx=False, progress=False)
    read = timm.create_model(f'local-dir:{tmp_path / "bundle"}', pretrained=True).eval()
    picture = open_rgb(smooth(1, 80, 70))
    prepared = preprocess(picture, size, MEAN, STD)
    transform = timm.data.create_transform(**timm.data.resolve_data_config(read.pretrained_cfg))
    np.testing.assert_allclose(transform(picture), prepared, atol=1e-5)
    batch = torch.from_numpy(prepared)[None]
    with torch.inference_mode():
        torch.testing.assert_close(read(batch), net(batch), atol=1e-6, rtol=0)


def pooled():
    from torch import nn

    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def save_pooled(path, net, **options):
    return save_bundle(path, net, ['red', 'green', 'blue'], 8, MEAN, STD, progress=False, **options)


def test_a_module_without_a_name_runs_where_it_can(tmp_path):
    "By onnxruntime; by torch when it is handed over; else the error says so."
    path = save_pooled(tmp_path / 'b', pooled())
    expected = Predictor(path).predict(smooth())
    by_torch = Predictor(path, 'torch', model=pooled())
    assert (Predictor(path).engine, by_torch.engine) == ('onnx', 'torch')
    assert by_torch.predict(smooth()).probs == pytest.approx(expected.probs, abs=1e-6)
    with pytest.raises(BundleError, match=r'cannot build a Sequential.*model=net'):
        Predictor(path, 'torch')
    with pytest.raises(ValueError, match='model is for engine="torch"'):
        Predictor(path, 'onnx', model=pooled())
    with pytest.raises(BundleError, match='weights and network'):
        Predictor(path, model=tiny_model())


def test_a_changed_forward_is_no_longer_what_its_name_says(tmp_path):
    import types

    net = tiny_model()
    before = type(net).forward
    net.forward = types.MethodType(lambda self, images: before(self, images) + 1, net)
    path = save_bundle(tmp_path / 'b', net, VOCAB, SIZE, MEAN, STD, onnx=False, progress=False)
    assert load_config(path)['network'] == {} and load_config(path)['architecture'] == 'EfficientNet'


def test_wrappers_are_taken_off(tmp_path):
    import torch

    net = tiny_model()
    compiled = torch.nn.Module()  # what torch.compile wraps a module in; the real one takes seconds to import
    compiled._orig_mod = net
    for i, wrapped in enumerate((torch.nn.DataParallel(net), compiled, torch.nn.DataParallel(compiled))):
        path = save_bundle(tmp_path / str(i), wrapped, VOCAB, SIZE, MEAN, STD, onnx=False, progress=False)
        assert load_config(path)['architecture'] == 'test_efficientnet'
        expected = by_hand(net, [saved(smooth())])[0]
        np.testing.assert_allclose(list(Predictor(path, 'torch').predict(smooth()).probs.values()), expected, atol=1e-5)


def ending_in(last):
    from torch import nn

    return nn.Sequential(pooled(), last)


def answering(change):
    from torch import nn

    class Changed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = pooled()

        def forward(self, images):
            return change(self.net(images))

    return Changed()


REFUSED = {  # what is wrong -> (how the network is made, what the error must say)
    'a sigmoid': (lambda nn: ending_in(nn.Sigmoid()), r'ends in a sigmoid.*leave that layer out'),
    'a softmax': (lambda nn: ending_in(nn.Softmax(1)), r'ends in a softmax.*leave that layer out'),
    'a dictionary': (lambda nn: answering(lambda x: {'logits': x}), 'returns a dict.*forward returns them alone'),
    'a tuple': (lambda nn: answering(lambda x: (x, x)), 'returns a tuple'),
    'maps': (lambda nn: nn.Conv2d(3, 3, 1), r'\(8, 3, 8, 8\)'),
    'another number of labels': (lambda nn: ending_in(nn.Linear(3, 4)), r'3 labels.*\(8, 4\)'),
    'nan': (lambda nn: answering(lambda x: x / (x - x)), 'nan or inf'),
}


@pytest.mark.parametrize('what', REFUSED)
def test_what_gives_no_logits_is_refused(what, tmp_path):
    from torch import nn

    make, match = REFUSED[what]
    with pytest.raises(ValueError, match=match):
        save_pooled(tmp_path / 'b', make(nn), onnx=False)
    assert entries(tmp_path) == []


def test_a_cast_inside_is_no_hindrance(tmp_path):
    path = save_pooled(tmp_path / 'b', answering(lambda x: (x.double() * 2).half().float()))
    assert Predictor(path).predict(smooth()).probs


def test_what_onnx_cannot_write_says_so(tmp_path):
    net = answering(lambda x: x * float(x[0, 0].item() > 0))
    with pytest.raises(RuntimeError, match='cannot be written as ONNX.*onnx=False') as raised:
        save_pooled(tmp_path / 'b', net)
    assert len(str(raised.value)) < 1000 and entries(tmp_path) == []
    save_pooled(tmp_path / 'b', net, onnx=False)


def test_what_would_answer_otherwise_is_not_saved(tmp_path, monkeypatch):
    other = tiny_model(5)
    write = bundle_room._onnx_file
    monkeypatch.setattr(bundle_room, '_onnx_file', lambda path, net, pictures: write(path, other, pictures))
    with pytest.raises(RuntimeError, match='not saved, because onnx differs'):
        save_bundle(tmp_path / 'b', tiny_model(6), VOCAB, SIZE, MEAN, STD, progress=False)
    assert entries(tmp_path) == []


def test_weights_of_half_precision_are_widened(bundle, predictors):
    replaced(WEIGHTS, tensors(halved))(bundle)
    answer, expected = (p.predict(smooth()).probs for p in (Predictor(bundle, 'torch'), predictors['torch']))
    assert answer != expected and answer == pytest.approx(expected, abs=0.02)


def test_a_network_out_of_proportion_is_refused_by_its_weights(bundle):
    "Before anything of that size is made."
    field('model_args', {'stem_size': 8000, 'num_classes': 5})(bundle)
    tracemalloc.start()
    refused(bundle, 'weights', ['torch'])
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_only_known_names_are_built(bundle, tmp_path, monkeypatch):
    "Neither a module of the user's nor one that lies beside is imported, and nothing is looked for on the network."
    asked = []
    monkeypatch.setattr(socket, 'getaddrinfo', lambda *args, **kwargs: asked.append(args))
    (tmp_path / 'evil.py').write_text(f'open({str(tmp_path / "code ran")!r}, "w")')
    names = ('evil', 'evil:Net', 'os.system', 'local-dir:.', 'hf-hub:timm/resnet18.a1_in1k')
    others = [('network/head', {'kind': 'evil'}), ('model_args', lambda args: {**args, 'pretrained': True})]
    for i, (key, value) in enumerate([*(('architecture', name) for name in names), *others]):
        copy = shutil.copytree(bundle, tmp_path / str(i))
        field(key, value)(copy)
        refused(copy, 'weights and network', ['torch'])
    assert not (tmp_path / 'code ran').exists()
    assert not asked


# --- killed -----------------------------------------------------------------------------------------------------------

# A nursery that has imported and exported once forks a saver, kills it, and forks a reader that looks at what is left. Exporting is slow
# and touches no file: it is done once, so that the kills fall into the writing.
NURSERY = """
import itertools, os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import bundled
import test_bundle as t
import torch
from multilabel_nb import bundle
torch.set_num_threads(1)
MODELS, now = [t.tiny_model(1), t.tiny_model(2)], 0
onnx_files = [bundle._onnx_file(Path('.'), model, bundle._pictures(t.SIZE)) for model in MODELS]
bundle._onnx_file = lambda *args: onnx_files[now]
bundle._compare = lambda *args: None
EXPECTED = [bundled.by_hand(model, [bundled.saved(t.smooth())])[0] for model in MODELS]

def save(i):
    scores = {'model': {'which': float(i)}, 'all-negative': {'which': 0.5}}
    global now
    now = i
    more = {'scores': scores, 'overwrite': True, 'progress': False}
    t.save_bundle(path, MODELS[i], t.VOCAB, t.SIZE, t.MEAN, t.STD, **more)

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
    which = int(t.load_config(path)['scores']['model']['which'])
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
    kill_at_random(random.Random(0), int(sys.argv[3]))
    kill_at_each_step()
    assert wait(forked(lambda: save(1))) == 0
    checked()
    assert left_over() == clean, [str(p) for p in path.parent.rglob('*')]
print('done')
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, 'fork'), reason='processes are forked')
def test_killed_save_leaves_a_whole_bundle(tmp_path, request, record_property):
    "Kills at random moments, and one at each step of a save, of a folder and of one file."
    kills = (request.config.getoption('--kills') or 50) // 2
    command = [sys.executable, '-c', NURSERY, str(ROOT / 'tests'), str(tmp_path), str(kills)]
    out = subprocess.run(command, capture_output=True, text=True, env={**UTF8, 'OMP_NUM_THREADS': '1'})
    assert out.returncode == 0 and out.stdout.endswith('done\n'), out.stdout + out.stderr
    print(out.stdout)
    record_property('load', f'{2 * kills} kills and one at each step of a save: each time a whole bundle, the old or the new one')
