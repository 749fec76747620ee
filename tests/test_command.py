"""What the notebook on the command line cannot show: pipes, terminals, interrupts, a thousand files."""

import io
import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from bundled import BAD_FILES, COMMAND, JPG, SIZE, UTF8, VOCAB, WEATHER, saved, smooth
from PIL import Image

from multilabel_nb.bundle import save_bundle
from multilabel_nb.command import _kept, main

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


def left_out(folder, n=2):
    "What is said of a folder with a text and a hidden file."
    return f'multilabel-predict: {folder}: {n} left out (no images, or hidden)\n'


def in_folder(folder):
    return sorted(str(p) for p in folder.rglob('*') if p.suffix.lower() in {'.jpg', '.png'} and not p.name.startswith('.'))


def test_command_says_what_the_predictor_says(good, pictures, capsys, predictors):
    files = in_folder(pictures)
    expected = predictors['onnx'].predict_many(files)
    code, out, err = command(capsys, good, pictures, '--csv')
    frame = pd.read_csv(io.StringIO(out))
    assert (code, err) == (0, left_out(pictures)) and sorted(frame.image) == files
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


KINDS = {  # every kind that Pillow opens, and a name that it does not know
    **{f'a{suffix}': 'JPEG' for suffix in ('.jfif', '.jpe', '.JPG')},
    **{'a.tga': 'TGA', 'a.dib': 'DIB', 'a.ico': 'ICO', 'a.pcx': 'PCX', 'a.apng': 'PNG', 'a.sgi': 'SGI'},
    **{'a': 'PNG', 'scan.2024': 'TIFF', 'a.data': 'WEBP'},
}


def test_command_takes_every_kind_of_a_folder(good, tmp_path, capsys):
    "By its suffix or by how it begins; what it leaves out is counted, and what is damaged is named."
    folder = tmp_path / 'kinds'
    folder.mkdir()
    for name, kind in KINDS.items():
        (folder / name).write_bytes(saved(smooth(1), kind))
    for name in ('notes.txt', 'README', 'a.pdf'):
        (folder / name).write_text('not a picture')
    (folder / 'b.jpe').write_bytes(BAD_FILES['cut.jpg'])
    code, out, err = command(capsys, good, folder, '--csv')
    frame = pd.read_csv(io.StringIO(out)).set_index('image')
    assert sorted(frame.index) == sorted(str(folder / name) for name in [*KINDS, 'b.jpe'])
    assert frame.index[frame.error.notna()].tolist() == [str(folder / 'b.jpe')]
    assert code == 1 and err.startswith(left_out(folder, 3)) and 'b.jpe' in err


def test_command_goes_on_after_a_picture_that_gives_nan(tmp_path, pictures, capsys):
    "An error row for that picture, the others as alone, and exit status 1."
    import torch

    class Centred(torch.nn.Module):
        def forward(self, images):
            dark = (images.amax((1, 2, 3)) < -0.9).float()
            return images.mean((2, 3)) * 3 + (dark / (1 - dark) - dark)[:, None] * 0

    (pictures / 'black.png').write_bytes(saved(np.zeros((9, 9, 3), np.uint8)))
    half = (0.5,) * 3
    path = save_bundle(tmp_path / 'b', Centred(), ['red', 'green', 'blue'], 8, half, half, progress=False)
    files = [pictures / '0.jpg', pictures / 'black.png', pictures / '1.jpg']
    code, out, err = command(capsys, path, *files, '--json')
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 1 and [row['labels'] is None for row in rows] == [False, True, False]
    assert 'not finite' in rows[1]['error'] and 'black.png' in err
    _, alone, _ = command(capsys, path, files[2], '--json')
    assert json.loads(alone)['probs'] == pytest.approx(rows[2]['probs'], abs=1e-6)


def test_command_engines_thresholds_and_batches(good, pictures, capsys):
    _, expected, _ = command(capsys, good, pictures, '--csv')
    expected = pd.read_csv(io.StringIO(expected))
    for options in (['--engine', 'torch'], ['--bs', '1'], ['--bs', '2', '--workers', '1'], ['--no-progress']):
        code, out, err = command(capsys, good, pictures, '--csv', *options)
        assert (code, err) == (0, left_out(pictures)), options
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
        (['{pictures}', '{pictures}'], r'config\.json'),
        (['{good}', '{empty}'], 'empty'),
        (['{good}', '{tmp}/*.tif'], r'\*\.tif'),
        (['{good}', '{pictures}', '--thresh', '1.5'], 'thresh'),
        (['{good}', '{pictures}', '--thresh', 'snow=.5'], 'snow'),
        (['{good}', '{pictures}', '--thresh', 'road'], 'thresh|road'),
        (['{good}', '{pictures}', '--thresh', 'nan'], 'thresh'),
        (['{good}', '{pictures}', '--engine', 'tensorflow'], 'tensorflow'),
        (['{good}', '{pictures}', '--bs', '0'], 'bs'),
        (['{good}', '{pictures}', '--csv', '--json'], 'not allowed'),
        (['{good}', '{pictures}', '--threads', '0'], 'threads must be at least 1'),
        (['{good}', '{pictures}', '--shard', '5/4'], 'shard.*5/4'),
        (['{good}', '{pictures}', '--shard', '0/4'], 'shard.*0/4'),
        (['{good}', '{pictures}', '--shard', '2'], 'shard'),
        (['{good}', '{pictures}', '--resume', '{tmp}/out'], '--csv or --json'),
        (['{good}', '{pictures}', '--csv', '--resume', '{tmp}/out', '--drift', '{tmp}/report'], 'not --resume'),
        (['{good}', '{pictures}', '--csv', '--resume', '{tmp}/gone/out'], 'gone'),
        (['{good}', '{pictures}', '--csv', '--resume', '{pictures}/notes.txt'], 'notes.txt: does not begin'),
        (['{good}', '{pictures}', '--json', '--resume', '{pictures}/notes.txt'], 'notes.txt: does not begin'),
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
        word in ' '.join(out.split())
        for word in (
            '--shard',
            '--resume',
            '--threads',
            '--progress',
            '--csv',
            '--json',
            '--thresh',
            '--engine',
            'standard input',
            'Exit status',
        )
    )


def test_command_decodes_large_jpeg_files_smaller_on_request(good, tmp_path, capsys):
    (tmp_path / 'large.jpg').write_bytes(saved(Image.fromarray(smooth(0)).resize((4 * SIZE, 4 * SIZE)), 'JPEG'))
    whole, reduced = (command(capsys, good, tmp_path / 'large.jpg', '--json', *how)[1] for how in ((), ('--draft',)))
    assert whole != reduced and json.loads(whole)['labels'] == json.loads(reduced)['labels']


# --- shards, and runs that go on


FORMS = pytest.mark.parametrize('form', ['--csv', '--json'])


@FORMS
def test_shards_are_all_paths_once(form, good, pictures, capsys, monkeypatch):
    (pictures / 'broken.jpg').write_bytes(BAD_FILES['cut.jpg'])
    whole = command(capsys, good, pictures, form)[1].splitlines()
    head = [whole.pop(0)] if form == '--csv' else []
    for n in (1, 2, 4, 9):
        parts = [command(capsys, good, pictures, form, '--shard', f'{i}/{n}')[1].splitlines() for i in range(1, n + 1)]
        assert [part[: len(head)] for part in parts] == [head] * n
        rows = [part[len(head) :] for part in parts]
        names = [[row.split(',')[0] for row in whole[i::n]] for i in range(n)]
        assert [[row.split(',')[0] for row in part] for part in rows] == names
    monkeypatch.setattr(sys, 'stdin', io.StringIO('\n'.join(in_folder(pictures))))
    code, out, _ = command(capsys, good, '-', form, '--shard', '3/3')
    assert code in (0, 1) and len(out.splitlines()) == len(head) + 2


@FORMS
def test_resumed_after_any_byte_is_the_same(form, good, pictures, tmp_path, capsys):
    "Names with line breaks and quotes, broken pictures: cut anywhere, gone on with, and equal to what goes to standard output."
    (pictures / 'a "b"\nc.jpg').write_bytes(JPG)
    (pictures / 'broken\n".jpg').write_bytes(BAD_FILES['cut.jpg'])
    ask = [good, pictures, form, '--bs', '2', '--no-progress']
    code, once, _ = command(capsys, *ask)
    once, file = once.encode(), tmp_path / 'out'
    assert code == 1
    for end in (*range(0, len(once), 97), len(once) - 1, len(once)):
        file.write_bytes(once[:end])
        code, out, _ = command(capsys, *ask, '--resume', file)
        assert (code, out, file.read_bytes()) == (1, '', once), end
    assert not (tmp_path / 'out.lock').exists()


def test_resume_begins_with_a_whole_batch():
    """So that the same pictures pass the network together as in one run; the last digits may depend on that."""
    paths, args = [f'{i}.jpg' for i in range(8)], SimpleNamespace(resume='out', csv=True, bs=2)
    rows = b''.join(f'{path},,\n'.encode() for path in paths[:5])
    todo, done, failed = _kept(file := io.BytesIO(b'image,labels,error\n' + rows), b'image,labels,error\n', args, iter(paths))
    assert (list(todo), done, failed) == (paths[4:], 4, 0) and file.getvalue().endswith(b'\n3.jpg,,\n')


def test_resume_refuses_what_is_not_its_own(good, pictures, tmp_path, capsys):
    file, files = tmp_path / 'out', in_folder(pictures)
    assert command(capsys, good, *files, '--csv', '--resume', file)[0] == 0
    written = file.read_bytes()
    for paths, more, why in (
        (files[1:], [], 'row 1 is of'),
        (files[:2], [], 'path 3 is None'),
        (files, ['--shard', '2/2'], 'row 1 is of'),
    ):
        code, out, err = command(capsys, good, *paths, '--csv', '--resume', file, *more)
        assert (code, out, file.read_bytes()) == (2, '', written) and why in err
    code, _, err = command(capsys, good, *files, '--json', '--resume', file)
    assert code == 2 and 'does not begin' in err
    code, _, err = command(capsys, good, *files, '--csv', '--resume', file, '--bs', '0')
    assert code == 2 and 'bs' in err and file.read_bytes() == written


def test_progress_in_a_pipe_is_lines(good, pictures, tmp_path, capsys):
    ask = [good, pictures, '--csv', '--bs', '2', '--resume', tmp_path / 'out']
    said = command(capsys, *ask, '--progress')[2].splitlines()
    assert re.fullmatch(r'multilabel-predict: 5 of 5 images, [\d.]+ a second', said[-1]) and len(said) == 2
    assert 'multilabel-predict: 5 of 5 images' in command(capsys, *ask, '--progress')[2]
    assert command(capsys, *ask)[2] == left_out(pictures)


def test_the_module_runs_as_a_command():
    out = subprocess.run([*COMMAND, '--help'], capture_output=True, text=True, env=UTF8)
    assert out.returncode == 0 and out.stdout.startswith('usage: ')


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == 'win32', reason='no SIGKILL')
@FORMS
def test_killed_at_random_moments_loses_nothing(form, good, pictures, tmp_path, request, record_property):
    "Two shards, each killed after a random number of further bytes, again and again: the files of runs that nobody killed."
    kills = (request.config.getoption('--kills') or 20) // 2
    for i in range(1500):
        (pictures / f'{i:04}.jpg').write_bytes(BAD_FILES['cut.jpg'] if i % 75 == 7 else saved(smooth(i % 30), 'JPEG'))
    rng = random.Random(0 if form == '--csv' else 1)
    for shard in ('1/2', '2/2'):
        ask = [*COMMAND, str(good), str(pictures), form, '--shard', shard]
        once = subprocess.run(ask, capture_output=True, env=UTF8)
        file = tmp_path / f'{shard[0]}.out'
        share, grew = len(once.stdout) // kills, 0
        for _ in range(kills):
            before = file.stat().st_size if file.exists() else 0
            process = subprocess.Popen([*ask, '--resume', str(file)], stderr=subprocess.DEVNULL, env=UTF8)
            enough = before + rng.randrange(share)
            while process.poll() is None and (not file.exists() or file.stat().st_size <= enough):
                time.sleep(rng.random() / 100)
            process.kill()
            grew += process.wait(timeout=60) == -signal.SIGKILL and file.stat().st_size > before
        assert grew >= kills / 2, 'hardly any run was killed while it wrote'
        last = subprocess.run([*ask, '--resume', str(file)], capture_output=True, env=UTF8)
        assert last.returncode == once.returncode == 1 and file.read_bytes() == once.stdout
        assert not last.stdout and not file.with_name(f'{file.name}.lock').exists()
    record_property('load', f'{2 * kills} kills of a run with --resume, {form[2:]}: the file is that of a run that nobody killed')


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
    assert (out.returncode, out.stderr) == (0, left_out(pictures)) and len(out.stdout.splitlines()) == 6
    with open(tmp_path / 'out.csv', 'wb') as file:
        shown = on_terminal(command, file)
    assert '\r' in shown and '0/5' in shown
    assert (tmp_path / 'out.csv').read_text(encoding='utf-8') == out.stdout
    with open(tmp_path / 'again.csv', 'wb') as file:
        assert on_terminal([*command, '--no-progress'], file).splitlines() == left_out(pictures).splitlines()
    assert 'loading torch takes seconds' not in shown
    with open(tmp_path / 'torch.csv', 'wb') as file:
        assert 'loading torch takes seconds' in on_terminal([*command, '--engine', 'torch'], file)


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
        assert out.stderr == left_out(pictures) and len(out.stdout.splitlines()) == 1, out.stderr
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
