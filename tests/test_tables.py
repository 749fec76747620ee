"""What notebooks cannot show of tables: fresh processes, hostile files, properties."""

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

from multilabel_nb.datablock import multilabel_datablock
from multilabel_nb.datasets import multilabel_datasets
from multilabel_nb.label_cells import label_lists
from multilabel_nb.readers import read_labels
from multilabel_nb.splits import stratified_split
from multilabel_nb.tables import (
    build_vocab,
    check_images,
    cooccurrence,
    count_labels,
    drop_rare_labels,
    image_files,
    image_path,
    one_hot,
)


def fresh(code, **env):
    return subprocess.run(
        [sys.executable, '-c', code],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def read(text, **kwargs):
    return read_labels(io.StringIO(text), **kwargs)


def labelled(*lists):
    return pd.DataFrame(
        {
            'image_name': [f'i{i}' for i in range(len(lists))],
            'labels': [list(x) for x in lists],
        }
    )


def test_modules_need_pandas_alone():
    code = """
import sys, multilabel_nb.readers, multilabel_nb.tables, multilabel_nb.splits
heavy = {"fastai", "torch", "matplotlib", "iterstrat", "sklearn", "PIL", "tqdm"}
print(*{m.split(".")[0] for m in sys.modules} & heavy)
"""
    assert fresh(code).strip() == ''


def test_vocabulary_is_the_same_in_every_process():
    code = """
import io
from multilabel_nb.readers import read_labels
from multilabel_nb.tables import build_vocab, count_labels
text = 'image_name,tags\\na,clear road water\\nb,haze primary\\nc,cloudy\\n'
df = read_labels(io.StringIO(text))
print(build_vocab(df, [0, 1, 2]), list(count_labels(df).index))
"""
    assert len({fresh(code, PYTHONHASHSEED=seed) for seed in '01'}) == 1


def test_table_as_spreadsheets_write_it(tmp_path):
    (tmp_path / 'x.csv').write_bytes(b'\xef\xbb\xbfimage_name,tags,n\r\n007,x y,1\r\n\r\n008,NA,2\r\n')
    df = read_labels(tmp_path / 'x.csv')
    assert df['image_name'].tolist() == ['007', '008'] and df['labels'].tolist() == [['x', 'y'], ['NA']] and df['n'].tolist() == [1, 2]


def test_repeated_label_is_merged_and_told(capsys):
    df = read('image_name,tags\na,x y x x\nb,y\n')
    assert df['labels'].tolist() == [['x', 'y'], ['y']] and df['repeated'].tolist() == [
        ['x', 'x'],
        [],
    ]
    assert 'line 2 (a): x, x' in capsys.readouterr().out
    assert count_labels(df).loc['x'].tolist() == [1, 3]
    read('image_name,tags\na,x x\n', verbose=False)
    assert capsys.readouterr().out == ''


def test_image_without_label_goes_all_the_way():
    df = read('image_name,tags\na,\nb,x\nc,\nd,x\ne,\n', allow_empty=True)
    assert one_hot(df, ['x']).ravel().tolist() == [0, 1, 0, 1, 0]
    assert cooccurrence(df).to_numpy().tolist() == [[2]] and len(drop_rare_labels(df, 2)[0]) == 5
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


def test_labels_that_are_no_texts_are_refused_in_the_same_words_everywhere():
    df = labelled([16, 0], *[[7, 0]] * 4)
    for look in (label_lists, count_labels, cooccurrence, stratified_split):
        with pytest.raises(ValueError, match='row 0 holds the label 16, which is not a text'):
            look(df)
    with pytest.raises(ValueError, match='write str'):
        one_hot([['a']], [16, 0])


def test_the_column_of_the_images_comes_first_and_endings_are_seen():
    df = read('n,fname,tags\n1,a.jpeg,x\n2,b,x\n', image_col='fname')
    assert list(df.columns) == ['fname', 'n', 'tags', 'labels', 'repeated']
    names = ['a.jpeg', 'b.jpg']
    assert [file.name for file in image_files(df, '.')] == names
    assert [image_path(row, '.').name for _, row in df.iterrows()] == names
    with pytest.raises(ValueError, match="column 'n' holds 1, which names no image"):
        image_files(df, '.', image_col='n')


def test_both_pipelines_find_images_and_refuse_tables_alike(tmp_path):
    df = read('fname,tags\na.png,x\nb.png,y\n', image_col='fname')
    for name in df['fname']:
        Image.new('RGB', (8, 8)).save(tmp_path / name)
    splits = [[0], [1]]
    block = multilabel_datablock(tmp_path, ['x', 'y'], lambda df: splits)
    for dsets in (
        multilabel_datasets(df, tmp_path, ['x', 'y'], splits),
        block.datasets(df),
    ):
        assert [x.size for x, y in (dsets.train[0], dsets.valid[0])] == [(8, 8)] * 2
    for build in (
        lambda **how: multilabel_datasets(df, tmp_path, ['x', 'y'], splits, **how),
        lambda **how: multilabel_datablock(tmp_path, ['x', 'y'], **how).datasets(df),
    ):
        with pytest.raises(ValueError, match="no column 'id'"):
            build(image_col='id')
        with pytest.raises(TypeError, match='sufix'):
            build(sufix='.png')
    with pytest.raises(ValueError, match='splits holds 2'):
        multilabel_datasets(df, tmp_path, ['x', 'y'], [[0], [2]])


def test_drop_rare_labels_tells_of_labels_that_shrink_and_refuses_to_drop_all():
    df = labelled('ab', 'a', 'cb', 'c', 'c')
    kept, report = drop_rare_labels(df, 3)
    assert list(kept.index) == [3, 4] and report.gone == {'a': 2, 'b': 2} and report.shrunk == ['c']
    assert str(report) == 'rows dropped: 3; labels removed: 2 (a 2, b 2); labels left: 1; now rarer than 3: c'
    with pytest.raises(ValueError, match='nothing would be left'):
        drop_rare_labels(df, 4)
    assert len(drop_rare_labels(df, 1)[0]) == 5


@pytest.mark.parametrize('idxs', [[True, False, True], [0.0, 1.0], ['0'], [3], [-1], [0, 99]])
def test_what_is_no_position_is_refused(idxs):
    with pytest.raises(ValueError, match='train_idxs'):
        build_vocab(labelled('a', 'b', 'c'), idxs)


def test_vocabulary_tells_what_it_leaves_out(capsys):
    assert build_vocab(labelled('b', 'a', 'ac'), np.array([1, 0])) == ['a', 'b']
    assert capsys.readouterr().out == 'not in the training rows, so not in the vocabulary: c (images: 1)\n'
    with pytest.raises(ValueError, match='carry no label'):
        build_vocab(labelled('', 'a'), [0])


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.sets(st.sampled_from('abcde')), min_size=10, max_size=60))
def test_one_hot_holds_for_any_table(rows):
    df = labelled(*(sorted(row) for row in rows))
    targs = one_hot(df, list('abcde'))
    assert [{label for label, on in zip('abcde', row, strict=True) if on} for row in targs] == rows


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
    found = check_images(df, tmp_path, suffix='', progress=False).set_index('row')['problem']
    assert list(found.index) == [1, 2, 3, 4, 5, 6]
    assert found[3] == 'the file is empty' and found[4] == 'not an image of any known format' and found[6] == 'missing'
    with pytest.raises(ValueError, match=r'(?s)6 of 7 images.*row 1 \(half\).*row 6 \(nowhere\): missing'):
        check_images(df, tmp_path, suffix='', raises=True, progress=False)


def test_jpeg_that_lacks_only_its_last_rows_is_found(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    Image.fromarray(noise).convert('CMYK').save(tmp_path / 'a.jpg')
    whole = (tmp_path / 'a.jpg').read_bytes()
    (tmp_path / 'a.jpg').write_bytes(whole[:-200])
    found = check_images(pd.DataFrame({'fname': ['a.jpg']}), tmp_path, progress=False)
    assert 'truncated' in found['problem'][0]
