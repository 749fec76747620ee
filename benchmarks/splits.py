"""Splits by labels beside their peers, on ten shapes of data, ten seeds each.

`python benchmarks/splits.py` takes about three minutes, writes `splits.json` beside this file, and exits with 1 when `stratified_split`
is not the best or equal in the share of labels that a side lacks, or misses the size that was asked for by more than two rows (two groups).

The peers: chance; iterative stratification (the package `iterative-stratification`); and stratification by whole label sets (scikit-learn's
`StratifiedShuffleSplit`, label sets of one image taken together), both described by Sechidis, Tsoumakas and Vlahavas (ECML PKDD 2011).
With groups: scikit-learn's `GroupShuffleSplit`, and `StratifiedGroupKFold` on the rarest label of each image.
"""

import argparse
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit
from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold, StratifiedShuffleSplit

from multilabel_nb.files import write_atomically
from multilabel_nb.readers import read_labels
from multilabel_nb.sources import data_name, planet_sample
from multilabel_nb.splits import random_split, stratified_split
from multilabel_nb.tables import count_labels, one_hot


def drawn(n, n_labels, most, power, seed=0):
    "`n` images with 1 to `most` labels each, the k-th label in proportion to `1 / k ** power`."
    rng = np.random.default_rng(seed)
    p = 1 / np.arange(1, n_labels + 1) ** power
    rows = [rng.choice(n_labels, rng.integers(1, most + 1), replace=False, p=p / p.sum()) for _ in range(n)]
    return pd.DataFrame({'labels': [[f'label {j}' for j in row] for row in rows]})


def equal(n_labels, n_images):
    return pd.DataFrame({'labels': [[f'label {j}'] for j in range(n_labels) for _ in range(n_images)]})


def places(n, n_groups, seed=0):
    return np.random.default_rng(seed).integers(0, n_groups, n)


def shapes():
    "Name -> table, share for validation, groups."
    planet = read_labels(planet_sample() / 'labels.csv', verbose=False)
    return {
        data_name(planet_sample()): (planet, 0.2, None),
        '30 labels on 2 images each': (equal(30, 2), 0.2, None),
        '30 labels on 6 images each': (equal(30, 6), 0.1, None),
        '2,000 images, 1,100 tags, long tail': (drawn(2000, 1100, 5, 1), 0.1, None),
        '5,000 images, 80 labels, long tail': (drawn(5000, 80, 6, 1), 0.2, None),
        '60 images, 20 labels': (drawn(60, 20, 3, 1), 0.2, None),
        '300 images, 200 labels, even': (drawn(300, 200, 8, 0), 0.3, None),
        '1,000 images, 12 labels, very long tail': (drawn(1000, 12, 3, 3), 0.2, None),
        '1,000 tiles of 120 places': (planet, 0.2, places(len(planet), 120)),
        '600 images of 60 people, 40 labels': (drawn(600, 40, 4, 1), 0.2, places(600, 60)),
    }


def sets_split(df, targs, pct, seed, groups):
    "Stratified by whole label sets."
    names = pd.Series([' '.join(map(str, row)) for row in targs.astype(int)])
    once = names.map(names.value_counts()) < 2
    names[once] = 'once'
    if once.sum() == 1:
        names[once] = names[~once].iloc[0] if (~once).any() else 'once'
    return next(StratifiedShuffleSplit(1, test_size=pct, random_state=seed).split(names, names))


def rarest_split(df, targs, pct, seed, groups):
    "Groups, stratified by the rarest label of each image."
    rarest = np.where(targs > 0, targs.sum(0), np.inf).argmin(1)
    folds = StratifiedGroupKFold(round(1 / pct), shuffle=True, random_state=seed)
    return next(folds.split(rarest, rarest, groups))


def package_split(df, targs, pct, seed, groups):
    return next(MultilabelStratifiedShuffleSplit(1, test_size=pct, random_state=seed).split(targs, targs))


def shuffled_groups(df, targs, pct, seed, groups):
    return next(GroupShuffleSplit(1, test_size=pct, random_state=seed).split(targs, groups=groups))


OURS = {
    'stratified_split': lambda df, targs, pct, seed, groups: stratified_split(df, pct, seed, groups),
    'by chance': lambda df, targs, pct, seed, groups: random_split(len(df), pct, seed, groups),
}
PEERS = {'iterative stratification': package_split, 'label sets': sets_split}
GROUP_PEERS = {'GroupShuffleSplit': shuffled_groups, 'StratifiedGroupKFold': rarest_split}


def judged(targs, pct, groups, splits):
    "Of labels on two images (groups) or more: the share that a side lacks, distance of label shares, rows off, groups on both sides."
    train, valid = (np.asarray(side, dtype=int) for side in splits)
    owners = np.arange(len(targs)) if groups is None else groups
    several = [len(set(owners[on > 0])) > 1 for on in targs.T]
    images, inside = targs.sum(0)[several], targs[valid].sum(0)[several]
    lacking = (inside == 0) | (inside == images)
    return {
        'lacking': lacking.mean(),
        'lacking_train': (inside == images).mean(),
        'distance': abs(inside / images - len(valid) / len(targs)).mean(),
        'rows_off': abs(len(valid) - int(len(targs) * pct)),
        'torn': len(set(owners[train]) & set(owners[valid])),
    }


def measure(df, pct, groups, seeds):
    "Means over seeds, for each way."
    targs = one_hot(df, sorted(count_labels(df).index))
    rows = {}
    for name, way in {**OURS, **(PEERS if groups is None else GROUP_PEERS)}.items():
        began, found = time.perf_counter(), []
        for seed in range(seeds):
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                try:
                    found.append(judged(targs, pct, groups, way(df, targs, pct, seed, groups)))
                except ValueError:
                    break
        if len(found) == seeds:
            table = pd.DataFrame(found)
            rows[name] = {**table.mean().round(4).to_dict(), 'most_rows_off': int(table.rows_off.max())}
            rows[name]['seconds'] = round((time.perf_counter() - began) / seeds, 3)
    return rows


def bounds(name, rows, groups):
    "What does not hold."
    ours, peers = rows['stratified_split'], {k: v for k, v in rows.items() if k != 'stratified_split'}
    room = 2 if groups is None else 2 * int(np.bincount(groups).max())
    beaten = [k for k, v in peers.items() if v['lacking'] < ours['lacking'] and not v['torn'] and v['most_rows_off'] <= room]
    wrong = [f'{name}: {k} leaves fewer labels out' for k in beaten]
    wrong += [f'{name}: {ours["most_rows_off"]} rows off'] * (ours['most_rows_off'] > room)
    return wrong + [f'{name}: groups torn'] * (ours['torn'] > 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seeds', type=int, default=10)
    parser.add_argument('--out', type=Path, default=Path(__file__).with_suffix('.json'))
    args = parser.parse_args()
    result, wrong = {}, []
    for name, (df, pct, groups) in shapes().items():
        rows = result[name] = measure(df, pct, groups, args.seeds)
        wrong += bounds(name, rows, groups)
        print(f'\n{name}, {len(df)} rows, {pct:.0%} for validation')
        print(pd.DataFrame(rows).T.to_string())
    print('\n' + '\n'.join(wrong or ['all bounds hold']))
    write_atomically(args.out, (json.dumps({'seeds': args.seeds, 'shapes': result}, indent=1) + '\n').encode())
    return int(bool(wrong))


if __name__ == '__main__':
    sys.exit(main())
