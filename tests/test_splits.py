"""What notebooks cannot show of splits: hostile files, properties of many inputs."""

import sys
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from multilabel_nb.splits import (
    check_split,
    join_groups,
    picture_groups,
    random_split,
    stratified_split,
)
from multilabel_nb.tables import count_labels, one_hot


def labelled(*lists):
    names = [f'i{i}' for i in range(len(lists))]
    return pd.DataFrame({'image_name': names, 'labels': [list(x) for x in lists]})


def lacking(df, splits):
    "Labels on two images or more that training lacks, and that validation lacks."
    counts = count_labels(df)['images']
    there = [count_labels(df.iloc[side]).index for side in splits]
    return [set(counts.index[counts > 1]) - set(labels) for labels in there]


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 300), pct=st.floats(0.01, 0.99), seed=st.integers(0, 2**32 - 1))
def test_random_split_deals_out_every_row_once(n, pct, seed):
    if not 0 < int(n * pct) < n:
        with pytest.raises(ValueError):
            random_split(n, pct, seed)
        return
    train, valid = random_split(n, pct, seed)
    assert sorted(train + valid) == list(range(n)) and len(valid) == int(n * pct)
    assert all(type(i) is int for i in train)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.sets(st.sampled_from('abcde')), min_size=10, max_size=60),
    seed=st.integers(0, 1000),
)
def test_stratified_split_deals_out_every_row_once(rows, seed):
    df = labelled(*(sorted(row) for row in rows))
    if any(rows):
        train, valid = stratified_split(df, 0.3, seed)
        assert sorted(train + valid) == list(range(len(df)))
        assert len(valid) == int(0.3 * len(df)) and all(type(i) is int for i in train)
    else:
        with pytest.raises(ValueError, match='no row carries a label'):
            stratified_split(df, 0.3, seed)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.sets(st.sampled_from('abcdef')), min_size=4, max_size=10),
    pct=st.sampled_from([0.3, 0.5, 0.7]),
    seed=st.integers(0, 1000),
)
def test_no_split_of_a_small_table_leaves_out_fewer_labels(rows, pct, seed):
    df = labelled(*(sorted(row) for row in rows))
    if not any(rows):
        return
    train, valid = stratified_split(df, pct, seed)
    targs = one_hot(df, list('abcdef'))
    targs = np.column_stack([targs, ~targs.any(axis=1)])  # no label counts as one more
    images = targs.sum(axis=0)

    def missed(valid):
        inside = targs[list(valid)].sum(axis=0)
        return [((images > 1) & (inside == n)).sum() for n in (images, 0)]

    best = min(missed(side) for side in combinations(range(len(df)), len(valid)))
    assert missed(valid) == best


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('images, pct, sizes', [(2, 0.2, (48, 12)), (6, 0.1, (162, 18))])
def test_few_images_of_many_labels_keep_the_size_asked_for(images, pct, sizes, seed):
    """iterative-stratification gives 60 and 0 rows, and 150 and 30."""
    df = labelled(*[[f'label {j}'] for j in range(30) for _ in range(images)])
    train, valid = stratified_split(df, pct, seed)
    assert (len(train), len(valid)) == sizes
    assert len(count_labels(df.iloc[train])) == 30
    assert len(count_labels(df.iloc[valid])) == sizes[1]


def test_many_rare_tags_stand_on_both_sides_where_there_is_room():
    """2000 images, 1100 tags, a tenth for validation: chance leaves out about 360."""
    rng = np.random.default_rng(1)
    p = 1 / np.arange(1, 1101)
    chosen = [rng.choice(1100, rng.integers(1, 6), replace=False, p=p / p.sum()) for _ in range(2000)]
    df = labelled(*[[f'tag {j}' for j in row] for row in chosen])
    by_chance = lacking(df, random_split(2000, 0.1))
    train, valid = stratified_split(df, 0.1)
    untaught, untested = lacking(df, (train, valid))
    assert (len(train), len(valid)) == (1800, 200) and not untaught
    assert len(untested) < 0.4 * len(by_chance[1])
    # with room for all, none is missing
    assert lacking(df, stratified_split(df, 0.4)) == [set(), set()]


def test_stratified_split_needs_no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, 'iterstrat.ml_stratifiers', None)
    monkeypatch.setitem(sys.modules, 'sklearn', None)
    assert len(stratified_split(labelled(*'ababab'), 0.4)[1]) == 2


@pytest.mark.parametrize('pct', [0, 1, -0.1, 1.5, 0.01])
def test_split_that_leaves_a_side_empty_is_refused(pct):
    with pytest.raises(ValueError, match='valid_pct'):
        random_split(10, pct)
    with pytest.raises(ValueError, match='valid_pct'):
        stratified_split(labelled(*'ababababab'), pct)


@pytest.fixture
def tiles(tmp_path):
    "Three different pictures in a folder."
    rng = np.random.default_rng(0)
    for name in 'abc':
        pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'{name}.png')
    return tmp_path


def test_pictures_saved_in_another_mode_or_format_are_the_same_picture(tiles):
    Image.open(tiles / 'a.png').convert('RGBA').save(tiles / 'd.png', compress_level=1)
    df = pd.DataFrame({'image_name': list('abcd'), 'labels': [['x']] * 4})
    look = dict(folder=tiles, suffix='.png', progress=False)
    report = check_split(df, ([0, 1], [2, 3]), **look)
    assert not report
    assert report.problems == ['a.png (train, row 0) and d.png (valid, row 3) are the same picture']
    assert check_split(df, ([0, 3], [1, 2]), **look)


def test_check_split_names_a_file_it_cannot_read(tiles):
    (tiles / 'b.png').write_text('no picture')
    df = pd.DataFrame({'image_name': ['a.png', 'b.png', 'x.png'], 'labels': [['x']] * 3})
    with pytest.raises(ValueError, match='row 1: b.png cannot be read'):
        check_split(df, ([0, 1], [2]), tiles, progress=False)
    with pytest.raises(ValueError, match='row 2: x.png cannot be read'):
        check_split(df, ([0], [2]), tiles, progress=False)


def test_check_split_refuses_an_empty_side_index_labels_and_misspelt_keywords():
    df = labelled('a', 'b', 'c')
    with pytest.raises(ValueError, match='valid is empty'):
        check_split(df, ([0, 1, 2], []))
    with pytest.raises(ValueError, match='valid holds 3'):
        check_split(df, ([0, 1], [3]))
    with pytest.raises(TypeError, match='group'):
        check_split(df, ([0, 1], [2]), group=[1, 2, 3])


# ---- groups


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=4, max_size=20),
    pct=st.sampled_from([0.1, 0.2, 0.5]),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_a_group_is_never_torn_and_sizes_are_near_what_was_asked(sizes, pct, seed, data):
    groups = data.draw(st.permutations([f'group {g}' for g, size in enumerate(sizes) for _ in range(size)]))
    n = len(groups)
    df = labelled(*data.draw(st.lists(st.lists(st.sampled_from('abc'), min_size=1, unique=True), min_size=n, max_size=n)))
    for split in (lambda: random_split(n, pct, seed, groups), lambda: stratified_split(df, pct, seed, groups)):
        if min(sizes) > int(n * pct):
            with pytest.raises(ValueError, match='leave a side empty|smallest group has'):
                split()
            continue
        train, valid = split()
        assert sorted(train + valid) == list(range(n))
        assert not {groups[i] for i in train} & {groups[i] for i in valid}
        assert abs(len(valid) - int(n * pct)) <= 2 * max(sizes)
        assert not [p for p in check_split(df, (train, valid), groups=groups).problems if 'group' in p]


def test_labels_of_two_groups_stand_on_both_sides():
    """Chance leaves some of thirty labels, each on two places of three tiles, out of training."""
    groups = np.repeat(np.arange(60), 3)
    df = labelled(*[[f'label {g // 2}'] for g in groups])
    assert any(lacking(df, random_split(180, 0.2, seed, groups))[0] for seed in range(5))
    train, valid = stratified_split(df, 0.2, groups=groups)
    assert lacking(df, (train, valid))[0] == set() and abs(len(valid) - 36) <= 6


def test_rows_of_one_each_split_as_without_groups():
    df = labelled(*'abcabcabcabc')
    assert random_split(12, 0.3, groups=range(12)) == random_split(12, 0.3)
    assert stratified_split(df, 0.3, groups=list('mnopqrstuvwx')) == stratified_split(df, 0.3)


@pytest.mark.parametrize(
    'groups, said',
    [
        ([1, 2], '2 groups for 4 rows'),
        ([1, 2, None, 1], 'row 2 belongs to no group'),
        ([1, 2, float('nan'), 1], 'row 2 belongs to no group'),
        (['a'] * 4, 'the smallest group has 4 rows, more than 2'),
    ],
)
def test_groups_that_do_not_fit_are_refused(groups, said):
    for split in (random_split, lambda n, pct, groups: stratified_split(labelled(*'abab'), pct, groups=groups)):
        with pytest.raises(ValueError, match=said):
            split(4, 0.5, groups=groups)


def test_check_split_names_groups_on_both_sides():
    df = labelled(*'aabb')
    report = check_split(df, ([0, 2], [1, 3]), groups=['ann', 'ann', 'bob', 'cem'])
    assert report.problems == ['1 group on both sides: ann']
    assert check_split(df, ([0, 2], [1, 3]), groups=list('wxyz'))
    with pytest.raises(ValueError, match='3 groups for 4 rows'):
        check_split(df, ([0, 2], [1, 3]), groups=[1, 2, 3])


def test_copies_of_a_picture_stay_together(tiles):
    Image.open(tiles / 'a.png').save(tiles / 'd.png')
    df = pd.DataFrame({'image_name': list('abcd'), 'labels': [['x']] * 4})
    copies = picture_groups(df, tiles, suffix='.png', progress=False)
    assert copies[0] == copies[3] and len(set(copies)) == 3
    for seed in range(8):
        for train, _ in (random_split(4, 0.5, seed, copies), stratified_split(df, 0.5, seed, copies)):
            assert (0 in train) == (3 in train)
    assert join_groups(copies, ['p', 'q', 'q', 'r']) == [0, 1, 1, 0]
    named = df.assign(image_name=[f'{name}.png' for name in 'abcd'])
    for seed in range(8):
        train, _ = stratified_split(named, 0.5, seed, folder=tiles)
        assert (0 in train) == (3 in train)
        train, _ = stratified_split(named, 0.5, seed, ['p', 'q', 'q', 'r'], tiles)
        assert (0 in train) == (3 in train) != (1 in train) == (2 in train)
    with pytest.raises(ValueError, match='3 groups for 4 rows'):
        stratified_split(named, 0.5, 0, ['p', 'q', 'q'], tiles)
