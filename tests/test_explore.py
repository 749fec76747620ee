"""What lesson 01 cannot show: fresh processes, missing packages, hostile files, and properties over many inputs."""

import io
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from multilabel_nb import explore
from multilabel_nb.explore import (
    build_vocab,
    check_images,
    cooccurrence,
    count_labels,
    drop_rare,
    one_hot,
    random_split,
    read_labels,
    split_health,
    stratified_split,
)


def fresh(code, **env):
    return subprocess.run([sys.executable, '-c', code], env={**os.environ, **env}, capture_output=True, text=True, check=True).stdout


def read(text, **kwargs):
    return read_labels(io.StringIO(text), **kwargs)


def labelled(*lists):
    return pd.DataFrame({'image_name': [f'i{i}' for i in range(len(lists))], 'labels': [list(x) for x in lists]})


def test_module_needs_neither_fastai_nor_torch_nor_matplotlib():
    code = (
        'import sys, multilabel_nb.explore; print(*{m.split(".")[0] for m in sys.modules} & {"fastai", "torch", "matplotlib", "iterstrat"})'
    )
    assert fresh(code).strip() == ''


def test_vocabulary_is_the_same_in_every_process():
    code = """
import io
from multilabel_nb.explore import build_vocab, count_labels, read_labels
df = read_labels(io.StringIO('image_name,tags\\na,clear road water\\nb,haze primary\\nc,cloudy\\n'))
print(build_vocab(df, [0, 1, 2]), list(count_labels(df).index))
"""
    assert len({fresh(code, PYTHONHASHSEED=seed) for seed in '01'}) == 1


def test_stratified_split_says_which_package_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, 'iterstrat.ml_stratifiers', None)
    with pytest.raises(ImportError, match='pip install iterative-stratification'):
        stratified_split(labelled('a', 'b', 'a', 'b', 'a'))


@pytest.mark.parametrize(
    'text, said',
    [
        ('', ['no rows']),
        ('image_name,tags\n', ['no rows']),
        ('image_name,labels\na,x\n', ["no column 'tags'", "['image_name', 'labels']"]),
        ('image_name,tags\na,x\nb,\n', ['line 3 (b)', 'blank', 'allow_empty=True']),
        ('image_name,tags\na,x\nb,"  "\n', ['line 3 (b)', 'blank']),
        ('image_name,tags\na,NaN\n', ['line 2 (a)', 'NaN']),
        ('image_name,tags\na,x\nb\n', ['line 3 (b)', '1 field', 'header 2']),
        ('image_name,tags\na,x,y\nb,x,y\n', ['line 2 (a)', '3 fields', 'line 3 (b)']),
        ('image_name,tags\na,x  y\n', ['line 2 (a)', "empty label: 'x  y'"]),
        ('image_name,tags\na, x\n', ['line 2 (a)', 'empty label']),
        ('image_name,tags\na,x\nb,y \n', ['line 3 (b)', 'empty label']),
        ('image_name,tags\na,x\ty\n', ['line 2 (a)', 'white space']),
        ('image_name,tags\na,x\n\n\nb,y\na,z\n', ['line 6 (a)', 'line 2 already']),
        ('image_name,tags\n"a\nb",x\nc,\n', ['line 4 (c)', 'blank']),
        ('image_name,tags\n,x\n', ['line 2', 'image_name is blank']),
    ],
)
def test_bad_table_is_refused_and_the_row_named(tmp_path, text, said):
    file = tmp_path / 'bad.csv'
    file.write_text(text)
    with pytest.raises(ValueError) as e:
        read_labels(file)
    assert all(words in str(e.value) for words in [*said, str(file)]), e.value


def test_every_bad_row_counts_and_ten_are_spelt_out():
    with pytest.raises(ValueError) as e:
        read('image_name,tags\n' + ''.join(f'i{i},\n' for i in range(25)))
    assert '25 problems' in str(e.value) and 'line 11 (i9)' in str(e.value) and 'i10' not in str(e.value) and 'and 15 more' in str(e.value)


def test_table_that_is_no_text_or_not_there(tmp_path):
    (tmp_path / 'x.csv').write_bytes(b'image_name,tags\na,\xff\xfe\n')
    with pytest.raises(ValueError, match='x.csv: not a table'):
        read_labels(tmp_path / 'x.csv')
    with pytest.raises(FileNotFoundError, match='gone.csv'):
        read_labels(tmp_path / 'gone.csv')
    with pytest.raises(ValueError, match='delim is empty'):
        read('image_name,tags\na,x\n', delim='')


def test_table_as_spreadsheets_write_it(tmp_path):
    (tmp_path / 'x.csv').write_bytes(b'\xef\xbb\xbfimage_name,tags,n\r\n007,x y,1\r\n\r\n008,NA,2\r\n')
    df = read_labels(tmp_path / 'x.csv')
    assert df['image_name'].tolist() == ['007', '008'] and df['labels'].tolist() == [['x', 'y'], ['NA']] and df['n'].tolist() == [1, 2]


def test_repeated_label_is_merged_and_told(capsys):
    df = read('image_name,tags\na,x y x x\nb,y\n')
    assert df['labels'].tolist() == [['x', 'y'], ['y']] and df['repeated'].tolist() == [['x', 'x'], []]
    assert 'line 2 (a): x, x' in capsys.readouterr().out
    assert count_labels(df).loc['x'].tolist() == [1, 3]
    read('image_name,tags\na,x x\n', verbose=False)
    assert capsys.readouterr().out == ''


def test_image_without_label_goes_all_the_way():
    df = read('image_name,tags\na,\nb,x\nc,\nd,x\ne,\n', allow_empty=True)
    assert one_hot(df, ['x']).ravel().tolist() == [0, 1, 0, 1, 0]
    assert cooccurrence(df).to_numpy().tolist() == [[2]] and len(drop_rare(df, 2)[0]) == 5
    train, valid = stratified_split(df, 0.4)
    assert sorted(train + valid) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize('vocab', [{'a', 'b'}, frozenset('ab'), dict(a=1), 'ab', ['a', 'b', 'a']])
def test_vocabulary_without_order_or_with_repeats_is_refused(vocab):
    with pytest.raises(ValueError, match='vocab'):
        one_hot([['a']], vocab)


def test_texts_are_not_lists_of_labels():
    with pytest.raises(ValueError, match="row 1 holds 'ab'"):
        one_hot([['a'], 'ab'], ['a', 'b'])
    with pytest.raises(ValueError, match='read_labels makes it'):
        count_labels(pd.DataFrame({'tags': ['a']}))


def test_drop_rare_tells_of_labels_that_shrink_and_refuses_to_drop_all():
    df = labelled('ab', 'a', 'cb', 'c', 'c')
    kept, report = drop_rare(df, 3)
    assert list(kept.index) == [3, 4] and report.gone == {'a': 2, 'b': 2} and report.shrunk == ['c']
    assert str(report) == '3 rows dropped; 2 labels gone (a 2, b 2); 1 label left; now under 3: c'
    with pytest.raises(ValueError, match='nothing would be left'):
        drop_rare(df, 4)
    assert len(drop_rare(df, 1)[0]) == 5


@pytest.mark.parametrize('idxs', [[True, False, True], [0.0, 1.0], ['0'], [3], [-1], [0, 99]])
def test_what_is_no_position_is_refused(idxs):
    with pytest.raises(ValueError, match='train_idxs'):
        build_vocab(labelled('a', 'b', 'c'), idxs)


def test_vocabulary_tells_what_it_leaves_out(capsys):
    assert build_vocab(labelled('b', 'a', 'ac'), np.array([1, 0])) == ['a', 'b']
    assert capsys.readouterr().out == 'not in the training rows, so not in the vocabulary: c (1 image)\n'
    with pytest.raises(ValueError, match='carry no label'):
        build_vocab(labelled('', 'a'), [0])


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 300), pct=st.floats(0.01, 0.99), seed=st.integers(0, 2**32 - 1))
def test_random_split_deals_out_every_row_once(n, pct, seed):
    if not 0 < int(n * pct) < n:
        with pytest.raises(ValueError):
            random_split(n, pct, seed)
        return
    train, valid = random_split(n, pct, seed)
    assert sorted(train + valid) == list(range(n)) and len(valid) == int(n * pct) and all(type(i) is int for i in train)


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.sets(st.sampled_from('abcde')), min_size=10, max_size=60), seed=st.integers(0, 1000))
def test_one_hot_and_stratified_split_hold_for_any_table(rows, seed):
    df = labelled(*(sorted(row) for row in rows))
    targs = one_hot(df, list('abcde'))
    assert [{label for label, on in zip('abcde', row, strict=True) if on} for row in targs] == rows
    if targs.any():
        train, valid = stratified_split(df, 0.3, seed)
        assert sorted(train + valid) == list(range(len(df)))


@pytest.mark.parametrize('pct', [0, 1, -0.1, 1.5, 0.01])
def test_split_that_leaves_a_side_empty_is_refused(pct):
    with pytest.raises(ValueError, match='valid_pct'):
        random_split(10, pct)
    with pytest.raises(ValueError, match='valid_pct'):
        stratified_split(labelled(*'ababababab'), pct)


@pytest.fixture
def tiles(tmp_path):
    "Three different pictures, and a folder like that of a data set."
    (tmp_path / 'train').mkdir()
    rng = np.random.default_rng(0)
    for name in 'abc':
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(tmp_path / f'train/{name}.png')
    return tmp_path


def test_pictures_saved_in_another_mode_or_format_are_the_same_picture(tiles):
    Image.open(tiles / 'train/a.png').convert('RGBA').save(tiles / 'train/d.png', compress_level=1)
    df = pd.DataFrame({'image_name': list('abcd'), 'labels': [['x']] * 4})
    health = split_health(df, ([0, 1], [2, 3]), tiles, progress=False, suffix='.png')
    assert not health and health.problems == ['a.png (train, row 0) and d.png (valid, row 3) are the same picture']
    assert split_health(df, ([0, 3], [1, 2]), tiles, progress=False, suffix='.png')


def test_split_health_names_a_file_it_cannot_read(tiles):
    (tiles / 'train/b.png').write_text('no picture')
    df = pd.DataFrame({'image_name': list('abx'), 'labels': [['x']] * 3})
    with pytest.raises(ValueError, match='row 1: b.png cannot be read'):
        split_health(df, ([0, 1], [2]), tiles, progress=False, suffix='.png')
    with pytest.raises(ValueError, match='row 2: x.png cannot be read'):
        split_health(df, ([0], [2]), tiles, progress=False, suffix='.png')


def test_split_health_refuses_an_empty_side_and_index_labels():
    df = labelled('a', 'b', 'c')
    with pytest.raises(ValueError, match='valid is empty'):
        split_health(df, ([0, 1, 2], []))
    with pytest.raises(ValueError, match='valid holds 3'):
        split_health(df, ([0, 1], [3]))


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'GIF', 'TIFF', 'WEBP', 'BMP'])
def test_cut_off_files_of_any_kind_are_found(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, kind)
    whole = out.getvalue()
    for name, data in {
        'whole': whole,
        'half': whole[: len(whole) // 2],
        'stub': whole[:20],
        'empty': b'',
        'text': b'<html></html>',
    }.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / 'folder').mkdir()
    names = ['whole', 'half', 'stub', 'empty', 'text', 'folder', 'nowhere']
    df = pd.DataFrame({'fname': names})
    found = check_images(df, tmp_path, progress=False, image_col='fname', folder='.', suffix='').set_index('row')['problem']
    assert list(found.index) == [1, 2, 3, 4, 5, 6]
    assert found[3] == found[4] == 'not an image of any known format' and found[6] == 'missing'
    with pytest.raises(ValueError, match=r'(?s)6 of 7 images.*row 1: half.*row 6: nowhere is missing'):
        check_images(df, tmp_path, raises=True, progress=False, image_col='fname', folder='.', suffix='')


def test_jpeg_that_lacks_only_its_last_rows_is_found(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    Image.fromarray(noise).convert('CMYK').save(tmp_path / 'a.jpg')
    whole = (tmp_path / 'a.jpg').read_bytes()
    (tmp_path / 'a.jpg').write_bytes(whole[:-200])
    assert 'truncated' in explore._image_problem(tmp_path / 'a.jpg')
