"""What the notebooks of the readers cannot show: many containers, many dialects, files on a disk, and properties over many inputs."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import zipfile

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multilabel_nb.label_cells import LabelTableError, check_folder, check_labels
from multilabel_nb.readers import (
    read_label_columns,
    read_label_rows,
    read_labels,
    read_saved_labels,
)
from multilabel_nb.readers_look import inspect_table
from multilabel_nb.sources import planet_sample
from multilabel_nb.tables import build_vocab, count_labels, one_hot

PLAIN = 'image,tags\n007.jpg,x y\n8.jpg,y\n'


def zipped(text, *more, name='train.csv'):
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w') as z:
        for member in (name, *more):
            z.writestr(member, text)
    return out.getvalue()


def text_of(cell, **how):
    "Labels of a single cell, through the reader."
    frame = pd.DataFrame({'image': ['a'], 'tags': pd.Series([cell], dtype=object)})
    return read_labels(frame, 'image', 'tags', verbose=False, **how).labels[0]


# ---- every container gives the same table (F16)

CONTAINERS = {
    'labels.csv': PLAIN.encode(),
    'excel.csv': PLAIN.replace('\n', '\r\n').encode('utf-8-sig'),
    'unicode.txt': PLAIN.replace(',', '\t').encode('utf-16'),
    'labels.tsv': PLAIN.replace(',', '\t').encode(),
    'labels.csv.gz': gzip.compress(PLAIN.encode(), mtime=0),
    'labels.csv.bz2': bz2.compress(PLAIN.encode()),
    'labels.csv.xz': lzma.compress(PLAIN.encode()),
    'labels.zip': zipped(PLAIN),
    'mac.zip': zipped(PLAIN, '__MACOSX/._train.csv', '.DS_Store'),
    'zip named.csv': zipped(PLAIN.replace(',', '\t'), name='in/train.tsv'),
    'gzip in a zip.zip': zipped(gzip.compress(PLAIN.encode(), mtime=0), name='train.csv.gz'),
}


@pytest.mark.parametrize('name', CONTAINERS)
def test_every_container_gives_the_same_table(tmp_path, name):
    expected = read_labels(io.StringIO(PLAIN), 'image', 'tags')
    assert expected.image.tolist() == ['007.jpg', '8.jpg'] and expected.labels.tolist() == [['x', 'y'], ['y']]
    (tmp_path / name).write_bytes(CONTAINERS[name])
    for file in (tmp_path / name, str(tmp_path / name), io.BytesIO(CONTAINERS[name])):
        pd.testing.assert_frame_equal(read_labels(file, 'image', 'tags'), expected)
    with open(tmp_path / name, 'rb') as file:
        pd.testing.assert_frame_equal(read_labels(file, 'image', 'tags'), expected)


@pytest.mark.parametrize(
    'frame',
    [pd.DataFrame, pl.DataFrame, lambda x: pd.DataFrame(x).convert_dtypes(), lambda x: pd.DataFrame(x, index=[5, 3]).astype('category')],
)
def test_every_frame_gives_the_same_table(frame):
    made = read_labels(frame({'image': ['007.jpg', '8.jpg'], 'tags': ['x y', 'y']}), 'image', 'tags')
    pd.testing.assert_frame_equal(
        made[['image', 'labels', 'repeated']], read_labels(io.StringIO(PLAIN), 'image', 'tags').drop(columns='tags')
    )


@pytest.mark.parametrize('lists', [[['x', 'y'], []], [np.array(['x', 'y']), np.array([])], [('x', 'y'), ()]])
def test_list_columns_of_frames(lists):
    how = {'image_col': 'image', 'label_cols': 'tags', 'allow_empty': True}
    assert read_labels(pd.DataFrame({'image': ['a', 'b'], 'tags': lists}), **how).labels.tolist() == [['x', 'y'], []]
    assert read_labels(pl.DataFrame({'image': ['a', 'b'], 'tags': [['x', 'y'], []]}), **how).labels.tolist() == [['x', 'y'], []]


def test_parquet(tmp_path):
    pytest.importorskip('pyarrow')
    frame = pd.DataFrame({'image': ['a', 'b'], 'tags': [['x', 'y'], ['y']], 'n': [1, 2]})
    frame.to_parquet(tmp_path / 'labels.parquet')
    pd.testing.assert_frame_equal(read_labels(tmp_path / 'labels.parquet', 'image', 'tags'), read_labels(frame, 'image', 'tags'))


def test_parquet_without_an_engine_says_what_to_do(tmp_path, monkeypatch):
    def missing(*_):
        raise ImportError('no engine')

    pl.DataFrame({'image': ['a'], 'tags': ['x']}).write_parquet(tmp_path / 'labels.parquet')
    monkeypatch.setattr(pd, 'read_parquet', missing)
    with pytest.raises(ImportError, match='needs pyarrow, or hand over polars.read_parquet'):
        read_labels(tmp_path / 'labels.parquet', 'image', 'tags')
    assert read_labels(pl.read_parquet(tmp_path / 'labels.parquet'), 'image', 'tags').labels[0] == ['x']


@pytest.mark.parametrize(
    'data, said',
    [
        (b'', 'no rows'),
        (b'image,tags\n', 'no rows'),
        (b',\n1,2\n', 'no rows'),
        (b'image,tags\na,\xff\xfe\n', "can't decode"),
        (b'image;tags\na;x\n', r"no column 'image'; there are \['image;tags'\] \(is sep=';' meant\?\)"),
        (b'image,tags,tags\na,x,y\n', "two columns 'tags'"),
        (b'image,tags\na,"x\nb,y\n', 'not a table: unexpected end of data'),
        (b'\x1f\x8b\x08rubbish', 'cannot be unpacked'),
        (gzip.compress(PLAIN.encode(), mtime=0)[:-6], 'cannot be unpacked'),
        (b'PK\x03\x04rubbish', 'cannot be unpacked: File is not a zip file'),
        (zipped(PLAIN, 'test.csv'), 'a zip of 2 files'),
        (zipped('x', 'xl/workbook.xml', name='[Content_Types].xml'), r'hand over pandas.read_excel\(file\)'),
        (bz2.compress(b'x' * 99)[:-9], 'cannot be unpacked'),
        (lzma.compress(b'x' * 99)[:-9], 'cannot be unpacked'),
    ],
    ids=map(str, range(14)),  # by number: packed bytes hold the time, and two workers must name a test alike
)
def test_what_is_no_table_is_refused_and_named(tmp_path, data, said):
    (tmp_path / 'bad.csv').write_bytes(data)
    with pytest.raises(ValueError, match=said) as e:
        read_labels(tmp_path / 'bad.csv', 'image', 'tags')
    assert str(tmp_path / 'bad.csv') in str(e.value)


def test_file_that_is_not_there():
    with pytest.raises(FileNotFoundError, match='gone.csv'):
        read_labels('gone.csv', 'image', 'tags')


# ---- cells that hold lists (F5)


@pytest.mark.parametrize(
    'cell',
    [
        "['x', 'y']",
        '["x","y"]',
        " ['x','y'] ",
        "('x', 'y')",
        "{'y', 'x'}",
        '["x", "y"]\n',
        '{"choices": ["x", "y"]}',
        '["x", {"choices": ["y"]}]',
        '{"x": true, "no": false, "y": true}',
        "{'x': True, 'y': True}",
    ],
)
def test_lists_in_a_cell(cell):
    assert text_of(cell) == text_of(cell, delim=None) == ['x', 'y']


@pytest.mark.parametrize('cell', ['["it\'s", "a \\"b\\"", "c,d", "e f", "\\u00e9", "[g]"]'])
def test_signs_within_a_list(cell):
    assert text_of(cell) == json.loads(cell)
    assert text_of(str(json.loads(cell))) == json.loads(cell)


@pytest.mark.parametrize(
    'cell',
    [
        "['x' 'y']",  # an array of NumPy as text: Python would join the two
        "['x'\n 'y']",
        '[98 117]',
        '[x, y]',
        '{x,y}',  # PostgreSQL
        "[nan, 'x']",
        '["x", null]',
        '["x", ""]',
        '[["x", "y"]]',
        '[{"rectanglelabels": ["x"], "width": 3}]',
        '{"taxonomy": [["x"]]}',
        '{"choices": "x"}',
        '{"choices": null}',
        '{"choices": ["x"], "y": true}',
        '{"x": 1}',
        '[' * 100_000 + ']' * 100_000,
        "['x', 'y'",
        "[__import__('os')]",
    ],
)
def test_what_looks_like_a_list_and_is_none(cell):
    with pytest.raises(LabelTableError) if cell != "['x', 'y'" else pytest.raises(ValueError):
        found = text_of(cell, delim=None)
        raise ValueError(check_labels(pd.DataFrame({'image': ['a'], 'labels': [found]})).what[0])


def test_wrong_delimiter_is_told(capsys):
    file = io.StringIO('image,tags\na,clear;road\nb,Clear\nc,clear\n')
    read_labels(file, 'image', 'tags')
    out = capsys.readouterr().out
    assert "is delim=';' meant?" in out and "'Clear', 'clear': differ only in case" in out


@pytest.mark.parametrize(
    'labels, said',
    [
        (['a;b', 'a', 'b'], "';' meant"),
        (['a|b'], "'|' meant"),
        (['light,', 'car'], "',' meant"),
        (['clear haze', 'clear', 'haze'], "' ' meant"),
        (['a b', 'b c', 'a c', 'c d', 'd a'], "' ' meant"),
        (['traffic light', 'traffic_light'], 'differ'),
        (['traffic light', 'Traffic  Light'], 'differ'),
        (['T-shirt', 'tshirt'], 'differ'),
        (["['x'"], 'brackets or quotes'),
        (['"x"'], 'brackets or quotes'),
        (["b'x'"], 'brackets or quotes'),
        (['16.0'], 'fraction'),
    ],
)
def test_suspicious_labels(labels, said):
    df = pd.DataFrame({'image': [f'i{i}' for i in range(len(labels))], 'labels': [[x] for x in labels]}, index=range(7, 7 + len(labels)))
    found = check_labels(df)
    assert len(found) == 1 and said in found.what[0] and found.line[0] == 7


def test_common_vocabularies_are_not_suspicious():
    coco = ['traffic light', 'stop sign', 'wine glass', 'tennis racket', 'hot dog', 'person', 'dog', 'cell phone']
    for labels in (coco, ['opacity (left)', 'no finding'], ['partly_cloudy', 'cloudy'], ['0', '7', '16'], ['/m/01g317', '/m/04yx4']):
        assert check_labels(pd.DataFrame({'image': labels, 'labels': [[x] for x in labels]})).empty
    for file in ('labels.csv',):
        assert check_labels(read_labels(planet_sample() / file, verbose=False)).empty


# ---- numbers as labels (F6)


@pytest.mark.parametrize('cell', [7, 7.0, np.float32(7), np.int64(7), '7', [7], [7.0], '[7]', '[7.0]', np.array([7])])
def test_class_numbers_are_texts(cell):
    assert text_of(cell) == ['7']


def test_class_numbers_all_the_way():
    boxes = pd.DataFrame({'image_id': [1, 1, 2, 3], 'category_id': [16, 0, 7, None]})
    df = read_label_rows(boxes, 'image_id', 'category_id', allow_empty=True)
    vocab = build_vocab(df, [0, 1, 2])
    assert vocab == ['0', '16', '7'] and count_labels(df).loc['16', 'images'] == 1
    assert one_hot(df, vocab).tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]


# ---- one text column, as before


@pytest.mark.parametrize(
    'rows, said',
    [
        ('a,x\nb,\n', ['line 3 (b)', 'allow_empty=True']),
        ('a,x\nb,"  "\n', ['line 3 (b)']),
        ('a,NaN\n', ['line 2 (a)', 'NaN']),
        ('a,x\nb\n', ['line 3 (b)', '1 field(s)', 'header 2']),
        ('a,x,y\nb,x,y\n', ['line 2 (a)', '3 field(s)', 'line 3 (b)']),
        ('a,x  y\n', ['line 2 (a)', 'empty label']),
        ('a, x\n', ['line 2 (a)', 'empty label']),
        ('a,x\ty\n', ['line 2 (a)', 'white space']),
        ('a,x\n\n\nb,y\na,z\n', ['line 6 (a)', 'already listed on line 2']),
        ('"c",x\n"a.jpg",\n', ['line 3 (a.jpg)']),
        (',x\n', ['line 2', 'names no image']),
        ('a,x\x00\n', ['line 2 (a)', 'control character']),
        ('"a\nb",x\n', ['line 3', 'names no image']),
    ],
)
def test_bad_row_is_named(rows, said):
    with pytest.raises(LabelTableError) as e:
        read_labels(io.StringIO('image,tags\n' + rows), 'image', 'tags', sep=',')
    assert all(words in str(e.value) for words in said), e.value


def test_all_problems_are_listed_raised_or_returned():
    text = 'image,tags\n' + ''.join(f'i{i},\n' for i in range(25)) + 'good,x\n'
    with pytest.raises(LabelTableError) as e:
        read_labels(io.StringIO(text), 'image', 'tags')
    assert len(e.value.problems) == 25 and e.value.problems.line.tolist() == list(range(2, 27))
    assert 'the table: 25 problems' in str(e.value) and 'i9' in str(e.value) and 'i10' not in str(e.value) and 'and 15 more' in str(e.value)
    again = pickle.loads(pickle.dumps(e.value))
    assert str(again) == str(e.value) and again.problems.equals(e.value.problems)
    table, problems = read_labels(io.StringIO(text), 'image', 'tags', on_problem='return')
    assert table.image.tolist() == ['good'] and problems.equals(e.value.problems)
    table, problems = read_labels(io.StringIO('image,tags\na,\n'), 'image', 'tags', on_problem='return')
    assert table.empty and len(problems) == 1 and {'image', 'labels', 'repeated'} <= {*table}


@pytest.mark.parametrize(
    'how',
    [{'delim': ''}, {'label_cols': []}, {'on_problem': 'skip'}, {'sep': ', '}, {'image_col': 'labels', 'label_cols': 'image'}],
)
def test_wrong_arguments(how):
    with pytest.raises(ValueError):
        read_labels(io.StringIO('image,tags,labels\na,x,y\n'), **{'image_col': 'image', 'label_cols': 'tags'} | how)
    with pytest.raises(TypeError, match='unexpected keyword'):
        read_labels(io.StringIO(PLAIN), 'image', 'tags', delimiter=';')


def test_several_text_columns():
    text = 'image,l1,l2,l3,fold\na,car,traffic light,,1\nb,car,,car,2\n'
    df = read_labels(io.StringIO(text), 'image', ['l1', 'l2', 'l3'], delim=None, verbose=False)
    assert df.labels.tolist() == [['car', 'traffic light'], ['car']] and df.repeated.tolist() == [[], ['car']]
    assert df.fold.tolist() == [1, 2]


def test_other_columns_keep_what_they_hold():
    text = 'image,tags,person,n,p,is_valid,note,long\na,x,007,1,.5,True,,12345678901234567890\nb,x,8,2,1,False,hi,1\n'
    df = read_labels(io.StringIO(text), 'image', 'tags')
    assert df.iloc[0, 2:-2].tolist() == ['007', 1, 0.5, True, '', '12345678901234567890']
    assert [df[c].dtype.kind for c in ('n', 'p', 'is_valid')] == ['i', 'f', 'b']


# ---- a column for each label (F7)


@pytest.mark.parametrize(
    'yes, no, how',
    [
        ('1', '0', {}),
        ('1.0', '0.0', {}),
        ('Yes', 'no', {}),
        ('TRUE', 'False', {}),
        ('1', '-1', {'negative': '-1'}),  # CelebA
        ('x', '', {'positive': 'x', 'negative': '', 'unknown': '?'}),  # a spreadsheet with crosses
        ('3', '2', {'thresh': 2.5}),
        ('0.51', '0.5', {'thresh': 0.5}),
        ('1', '0', {'thresh': 0}),
        ('0.6', '0.5', {'thresh': np.float32(0.5)}),
    ],
)
def test_ways_to_say_yes_and_no(yes, no, how):
    df = read_label_columns(io.StringIO(f'id,a b,c\nx,{yes},{no}\ny,{no},{no}\n'), 'id', **how)
    assert df.labels.tolist() == [['a b'], []] and list(df) == ['id', 'labels', 'repeated']


@pytest.mark.parametrize(
    'cell, how', [('', {}), ('nan', {}), ('NaN', {}), ('-1', {'unknown': '-1'}), ('-1.0', {'unknown': [-1]}), ('u', {'unknown': 'U'})]
)
@pytest.mark.parametrize('thresh', [None, 0.5])
def test_unknown_stays_unknown(cell, how, thresh):
    df = read_label_columns(io.StringIO(f'id,a,b,c\nx,1,{cell},0\ny,0,0,1\n'), 'id', thresh=thresh, **how)
    assert df.labels.tolist() == [['a'], ['c']] and df.unknown.tolist() == [['b'], []]
    targs = one_hot(df, ['a', 'b', 'c'])
    assert np.array_equal(targs, [[1, np.nan, 0], [0, 0, 1]], equal_nan=True)


@pytest.mark.parametrize('missing', [None, np.nan, pd.NA, pd.NaT])
def test_missing_cells_of_frames_are_unknown(missing):
    frame = pd.DataFrame({'id': ['x'], 'a': [True], 'b': pd.Series([missing], dtype=object)})
    assert read_label_columns(frame, 'id').unknown[0] == ['b']
    assert read_label_columns(pl.DataFrame({'id': ['x'], 'a': [True], 'b': [None]}), 'id').unknown[0] == ['b']


@pytest.mark.parametrize('cell', ['2', '-1', '0.5', 'maybe', 'Ja'])
def test_other_cells_are_problems(cell):
    with pytest.raises(LabelTableError, match='line 2 .x.*neither positive, negative nor unknown'):
        read_label_columns(io.StringIO(f'id,a,b\nx,1,{cell}\n'), 'id')


def test_column_names_are_labels():
    df = read_label_columns(io.StringIO(',id, a ,b\n0,x,1,0\n'), 'id')
    assert df.labels[0] == ['a']
    for text in ('id,a, a\nx,1,0\n', 'id,n\nx,1\n'):
        with pytest.raises(ValueError, match='columns'):
            read_label_columns(io.StringIO(text), 'id', other_cols='n' if 'n' in text else ())
    with pytest.raises(ValueError, match="'yes' cannot mean two things"):
        read_label_columns(io.StringIO('id,a\nx,1\n'), 'id', negative=['0', 'Yes'])
    with pytest.raises(ValueError, match='thresh must be a number'):
        read_label_columns(io.StringIO('id,a\nx,1\n'), 'id', thresh=float('nan'))


# ---- a row for each picture and label (F7)


def test_rows_without_and_with_values():
    assert read_label_rows(io.StringIO('id,tag\nx,a b\ny,c\nx,c\n'), 'id', 'tag').labels.tolist() == [['a b', 'c'], ['c']]
    text = 'id,tag,score\nx,a,0.9\nx,b,0.4\ny,a,\n'
    df = read_label_rows(io.StringIO(text), 'id', 'tag', 'score', thresh=0.5)
    assert df.labels.tolist() == [['a'], []] and df.unknown.tolist() == [[], ['a']]
    df = read_label_rows(io.StringIO(text), 'id', 'tag', 'score', thresh=0.5, unlisted='unknown')
    assert df.unknown.tolist() == [[], ['a', 'b']]
    melted = pd.DataFrame({'id': ['x', 'y'], 'a': [1, 0], 'b': [0, 1]}).melt('id')
    assert read_label_rows(pl.DataFrame(melted.to_dict('list')), 'id', 'variable', 'value').labels.tolist() == [['a'], ['b']]


@pytest.mark.parametrize(
    'rows, said',
    [
        ('x,a,1,T\nx,a,0,T\n', "line 3 .x.: says two things about 'a'"),
        ('x,,1,T\n', 'line 2 .x.: has no label'),
        ('x,a,0.7,T\n', 'give thresh'),
        ('x,a,1,T\nx,b,1,V\n', 'line 3 .x.: side is not the same as on line 2'),
        (',a,1,T\n', 'names no image'),
    ],
)
def test_rows_that_contradict(rows, said):
    with pytest.raises(LabelTableError, match=said):
        read_label_rows(io.StringIO('id,tag,v,side\n' + rows), 'id', 'tag', 'v', other_cols=['side'])
    rows += 'good,a,1,T\n'
    df, problems = read_label_rows(io.StringIO('id,tag,v,side\n' + rows), 'id', 'tag', 'v', other_cols=['side'], on_problem='return')
    assert df.id.tolist() == ['good'] and len(problems) == 1 and df.side.tolist() == ['T']


def test_a_short_row_takes_its_whole_image_with_it():
    text = 'tag,id,n\na,x,1\nb,x\na,y,1\n'
    df, problems = read_label_rows(io.StringIO(text), 'id', 'tag', on_problem='return')
    assert df.id.tolist() == ['y'] and problems.values.tolist() == [[3, 'x', 'has 2 field(s), the header 3']]


def test_boxes_repeat_a_label_and_empty_images_are_kept():
    df = read_label_rows(io.StringIO('id,tag\nx,a\nx,a\nx,b\ny,\n'), 'id', 'tag', allow_empty=True, verbose=False)
    assert df.labels.tolist() == [['a', 'b'], []] and df.repeated.tolist() == [['a'], []]
    with pytest.raises(ValueError, match="unlisted is 'negative' or 'unknown'"):
        read_label_rows(io.StringIO('id,tag\nx,a\n'), 'id', 'tag', unlisted='no')


# ---- what this library wrote (F5), and what is accepted survives writing

labels = (
    st.text(st.characters(exclude_categories=['Cs', 'Cc']), min_size=1, max_size=8)
    .map(str.strip)
    .filter(lambda x: x not in ('', 'nan', 'NaN'))
)
names = st.text(st.characters(exclude_categories=['Cs', 'Cc']), min_size=1, max_size=8).filter(str.strip)
others = st.one_of(st.integers(-(10**20), 10**20).map(str), st.floats(allow_nan=False).map(repr), st.text('0.e-+ tTrRuUeEx', max_size=5))


few_or_many = pytest.mark.parametrize('cases', [40, pytest.param(1500, marks=pytest.mark.slow)])


@few_or_many
def test_accepted_table_survives_writing(cases):
    row = st.tuples(names, st.lists(labels, max_size=3), others)

    @settings(max_examples=cases, deadline=None)
    @given(st.lists(row, min_size=1, max_size=6, unique_by=lambda row: row[0]), st.booleans())
    def holds(rows, index):
        images, tags, other = map(list, zip(*rows, strict=True))
        text = pd.DataFrame({'image': images, 'tags': tags, 'other': other}).to_csv(index=index)
        df = read_labels(io.StringIO(text), 'image', 'tags', allow_empty=True, verbose=False)
        assert df.image.tolist() == images
        assert df.labels.tolist() == [list(dict.fromkeys(row)) for row in tags]
        pd.testing.assert_frame_equal(read_saved_labels(io.StringIO(df.to_csv(index=index))), df)
        again = read_labels(df, 'image', 'labels', allow_empty=True, verbose=False)
        pd.testing.assert_frame_equal(again[['image', 'labels']], df[['image', 'labels']])

    holds()


@few_or_many
def test_unknown_cells_survive_writing_and_become_nan(cases):
    values = {'1': 1, '0': 0, '': np.nan, '0.7': 0}

    @settings(max_examples=cases, deadline=None)
    @given(st.lists(labels.filter(lambda x: x != 'image'), min_size=1, max_size=4, unique=True), st.data())
    def holds(vocab, data):
        row = st.lists(st.sampled_from([*values]), min_size=len(vocab), max_size=len(vocab))
        rows = data.draw(st.lists(row, min_size=1, max_size=5))
        frame = pd.DataFrame(rows, [f'i{i}' for i in range(len(rows))], vocab).rename_axis('image')
        df = read_label_columns(io.StringIO(frame.to_csv()), 'image', thresh=0.7, verbose=False)
        back = read_saved_labels(io.StringIO(df.to_csv(index=False)))
        pd.testing.assert_frame_equal(back, df)
        expected = [[values[x] for x in row] for row in rows]
        assert np.array_equal(one_hot(back, vocab), expected, equal_nan=True)

    holds()


@few_or_many
def test_any_text_is_read_or_refused_in_words(cases):
    @settings(max_examples=cases, deadline=None)
    @given(st.text('ab,;"\n\t []{}\'\\:0', max_size=40), st.sampled_from([None, ' ', ';']))
    def holds(text, delim):
        two = 'a,b\n' + text
        calls = [
            lambda: read_labels(io.StringIO(two), 'a', 'b', delim, verbose=False),
            lambda: read_label_columns(io.StringIO(two), 'a', verbose=False),
            lambda: read_label_rows(io.StringIO(two), 'a', 'b', verbose=False),
            lambda: inspect_table(io.StringIO(text)).table,
        ]
        for call in calls:
            try:
                df = call()
            except ValueError as e:
                assert str(e)
                continue
            if len(df):
                pd.testing.assert_frame_equal(read_saved_labels(io.StringIO(df.to_csv())), df)

    holds()


@pytest.mark.parametrize('name', ['saved.csv', 'saved.csv.gz', 'saved.zip', 'saved.csv.bz2', 'saved.csv.xz'])
@pytest.mark.parametrize('index', [True, False])
def test_to_csv_of_the_real_table_in_every_container(tmp_path, name, index):
    df = read_labels(planet_sample() / 'labels.csv', verbose=False)
    df.to_csv(tmp_path / name, index=index)
    pd.testing.assert_frame_equal(read_saved_labels(tmp_path / name), df)
    df.to_csv(tmp_path / name, index=index, sep='\t')
    pd.testing.assert_frame_equal(read_saved_labels(tmp_path / name), df)


def test_saved_twice_by_pandas_itself_is_not_taken_for_another_table(tmp_path):
    df = read_labels(io.StringIO(PLAIN), 'image', 'tags')
    df.to_csv(tmp_path / 'a.csv')
    pd.read_csv(tmp_path / 'a.csv', dtype=str).to_csv(tmp_path / 'b.csv', index=False)
    again = read_saved_labels(tmp_path / 'b.csv')
    pd.testing.assert_frame_equal(again, df)


def test_predictions_of_the_command():
    text = 'image,labels,error,prob_x,prob_y\na.jpg,x;y,,0.9,0.8\nb.jpg,,,0.1,0.2\n'
    df = read_saved_labels(io.StringIO(text))
    assert df.labels.tolist() == [['x', 'y'], []] and df.prob_x.tolist() == [0.9, 0.1]
    with pytest.raises(LabelTableError, match='line 3 .c.jpg.: no prediction: cut off'):
        read_saved_labels(io.StringIO(text.replace('b.jpg,,', 'c.jpg,,cut off')))
    with pytest.raises(ValueError, match="no column 'labels'"):
        read_saved_labels(io.StringIO(PLAIN))
    with pytest.raises(ValueError, match="no column 'labels'"):
        read_saved_labels(io.StringIO('labels,repeated\nx,y\n'))


def test_unknown_labels_are_not_lost_by_the_wrong_reader():
    text = read_label_columns(io.StringIO('id,a,b\nx,1,\n'), 'id').to_csv(index=False)
    with pytest.raises(ValueError, match='read_saved_labels reads `unknown`'):
        read_labels(io.StringIO(text), 'id', 'labels')
    assert inspect_table(io.StringIO(text)).call == 'read_saved_labels(file)'


def test_a_label_both_carried_and_unknown_is_a_problem():
    with pytest.raises(LabelTableError, match="says two things about 'x'"):
        read_saved_labels(io.StringIO("image,labels,repeated,unknown\na,['x'],[],['x']\n"))


# ---- the look, and the folder beside the table (F18)


def test_look_shows_a_call_that_reads_the_file(tmp_path):
    file = tmp_path / 'labels.csv'
    tables = {
        'image,tags\na.jpg,x y\nb.jpg,y\nc.jpg,x\n': [['x', 'y'], ['y'], ['x']],
        'image;tags\na.jpg;x,y\nb.jpg;y\n': [['x', 'y'], ['y']],
        'ID,N,D\na,1,0\nb,0,1\n': [['N'], ['D']],
        'image_id,class\na,x\nb,y\na,y\n': [['x', 'y'], ['y']],
        'image,choice\na.jpg,"{""choices"": [""x y"", ""z""]}"\nb.jpg,x y\n': [['x y', 'z'], ['x y']],
        "image,tags,labels,repeated\na,x y,\"['x', 'y']\",[]\n": [['x', 'y']],
        'file\tlabel 1\tlabel 2\na.jpg\tx y\tz\nb.jpg\tz\t\n': [['x y', 'z'], ['z']],
    }
    functions = (read_labels, read_label_columns, read_label_rows, read_saved_labels)
    for text, expected in tables.items():
        file.write_text(text)
        look = inspect_table(file)
        made = eval(look.call, {f.__name__: f for f in functions})
        assert made.labels.tolist() == look.table.labels.tolist() == expected and look.problems.empty
        assert look.call in str(look)


def test_look_tells_errors_from_suspicions(tmp_path):
    for name in ('a.jpg', 'b.PNG', 'c.jpg', 'd.jpg', 'in/e.jpg', 'notes.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b'same' if name in ('a.jpg', 'c.jpg') else name.encode())
    file = io.StringIO('image,tags\nA.jpg,\n\nb.png,clear;road\nc.jpg,Clear\nd,clear\na.jpg,haze\nf.jpg,haze\n')
    look = inspect_table(file, folder=tmp_path)
    assert look.problems.values.tolist() == [[2, 'A.jpg', 'has no label (if intended: allow_empty=True)']]
    found = [(line, image, what.split(':')[0]) for line, image, what in look.suspicions.itertuples(index=False)]
    assert (4, 'b.png', '0 files of this name') in found and (8, 'f.jpg', '0 files of this name') in found
    assert (7, 'a.jpg', "the same file as 'c.jpg'") in found
    assert (None, 'in/e.jpg', 'a file without a row') in found and not any('notes' in str(row) for row in found)
    assert 'problems: 1' in str(look) and f'suspicions: {len(found)}' in str(look) and '  in/e.jpg: a file without a row' in str(look)


@pytest.mark.parametrize('other', ['A.JPG', 'a.png', './a.jpg', 'a', ' a.jpg', 'a.jpeg'])
def test_one_picture_under_two_names(other):
    found = check_labels(pd.DataFrame({'image': ['a.jpg', other], 'labels': [['x'], ['x']]}))
    assert "the same picture as 'a.jpg'?" in found.what.tolist()
    fine = pd.DataFrame({'image': ['in/a.jpg', 'on/a.jpg', 'a.1.jpg', 'a.2.jpg'], 'labels': [['x']] * 4})
    assert check_labels(fine).empty


def test_folder_with_mixed_endings(tmp_path):
    for name in ('a.jpg', 'b.png', 'b.jpg', 'c'):
        (tmp_path / name).write_text(name)
    found = check_folder(pd.DataFrame({'image': ['a', 'b', 'c', 'B.jpg']}), tmp_path)
    assert found.image.tolist() == ['b', 'B.jpg'] and found.what[0].startswith('2 files') and found.what[1].startswith('0 files')


def test_a_table_without_anything_to_say_is_refused():
    for frame in (
        pd.DataFrame(),
        pl.DataFrame(),
        pd.DataFrame({'image': []}),
        pd.DataFrame([['a']], columns=['']),
        pd.DataFrame([[1, 2]], columns=['a', 'a']),
    ):
        with pytest.raises(ValueError):
            inspect_table(frame)
