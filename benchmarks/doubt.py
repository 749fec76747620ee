"""Suspected labels: how many planted errors are found, beside cleanlab and chance, and what removing or mending the suspects is worth.

`python benchmarks/doubt.py` takes about five minutes for each set of data, writes `doubt.json` beside this file, and exits with 1 when
a bound does not hold. With the real Planet sample under MULTILABEL_NB_DATA it measures that too, and counts the suspects of its own labels.

Planted on the training rows of ten random splits: 5 % of all labels flipped, and a fifth of a rare label's images without it. The model
is the probe on all levels at 128 pixels. Its scores are on validation rows, whose labels stay as they are.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class

from multilabel_nb.backbones import load_backbone
from multilabel_nb.doubt import out_of_fold, self_confidence, suspect_labels
from multilabel_nb.files import write_atomically
from multilabel_nb.heads import MultiLevelFeatures
from multilabel_nb.images import open_rgb
from multilabel_nb.inference import preprocess
from multilabel_nb.metrics import fbeta_score, mean_average_precision
from multilabel_nb.readers import read_labels
from multilabel_nb.sources import data_name, is_standin, planet_sample
from multilabel_nb.splits import random_split
from multilabel_nb.tables import count_labels, image_files, one_hot
from multilabel_nb.training import fit_probe, probe_probs


def sample():
    "Features `(N, F)`, targets `(N, C)`, labels; only labels on ten images or more, which each side of each split holds."
    src = planet_sample()
    df, body = read_labels(src / 'labels.csv', verbose=False), MultiLevelFeatures(load_backbone()).eval()
    counts = count_labels(df)['images']
    vocab, feats = sorted(counts[counts >= 10].index), []
    files = image_files(df, src / 'train')
    with torch.inference_mode():
        for start in range(0, len(files), 20):
            batch = [preprocess(open_rgb(file), 128, [0.5] * 3, [0.5] * 3) for file in files[start : start + 20]]
            feats.append(body(torch.from_numpy(np.stack(batch))).mean((2, 3)))
    df['labels'] = [[label for label in labels if label in vocab] for labels in df['labels']]
    return torch.cat(feats).float(), one_hot(df, vocab).astype(float), vocab


def probs_of(feats, targs, train, rest):
    head = fit_probe(feats[train], torch.from_numpy(targs[train]).float(), 0.3, ignore_nan=True)
    return probe_probs(head, feats[rest]).numpy()


def out_of_fold_probs(feats, targs, seed=0):
    return out_of_fold(lambda train, rest: probs_of(feats, targs, train, rest), len(targs), seed=seed, progress=False)


def plant(targs, vocab, seed):
    "What the table says after the errors, and which label lost a fifth of its images."
    rng = np.random.default_rng(seed)
    given = np.where(rng.random(targs.shape) < 0.05, 1 - targs, targs)
    rare = int(abs(targs.sum(0) - 60).argmin())
    with_it = np.flatnonzero(targs[:, rare])
    given[rng.choice(with_it, len(with_it) // 5, replace=False), rare] = 0
    return given, vocab[rare]


def theirs_first(probs, given):
    "cleanlab's order: what its default filter lists, by its self-confidence, and then the rest by the same."
    lists = [np.flatnonzero(row).tolist() for row in given]
    issues = find_multilabel_issues_per_class(lists, probs, n_jobs=1)
    return np.lexsort([self_confidence(probs, given).ravel(), ~issues.ravel()])


def scores(feats, targs, valid_targs, rows):
    probs = probs_of(feats, targs, *rows)
    return {
        'mAP': float(mean_average_precision(probs, valid_targs)),
        'micro F1': float(fbeta_score(probs, valid_targs, average='micro', beta=1)),
    }


def one_split(feats, truth, vocab, seed):
    train, valid = map(np.array, random_split(len(truth), seed=seed))
    given, rare = plant(truth[train], vocab, seed)
    wrong = given != truth[train]
    k, probs = int(wrong.sum()), out_of_fold_probs(feats[train], given, seed)
    found = suspect_labels(probs, given, vocab)
    at = found['row'].to_numpy(), found['label'].map(vocab.index).to_numpy()
    sure = found['confident'].to_numpy()
    removed, flipped = given.copy(), given.copy()
    confident = at[0][sure], at[1][sure]
    removed[confident], flipped[confident] = np.nan, 1 - given[confident]
    result = {
        'planted': k,
        'chance': wrong.mean(),
        'precision at k': wrong[at][:k].mean(),
        'cleanlab, precision at k': wrong.ravel()[theirs_first(probs, given)[:k]].mean(),
        'confident': int(sure.sum()),
        'planted among them': wrong[confident].mean(),
    }
    everything = np.copy(truth)
    for name, labels in {
        'true labels': truth[train],
        'as planted': given,
        'confident removed': removed,
        'confident flipped': flipped,
    }.items():
        everything[train] = labels
        result |= {f'{name}, {score}': value for score, value in scores(feats, everything, truth[valid], (train, valid)).items()}
    return result


def own_suspects(feats, targs, vocab):
    "The labels of the table itself: how many are suspected."
    found = suspect_labels(out_of_fold_probs(feats, targs), targs, vocab)
    kinds = found['given'].map({1: 'given, suspected', 0: 'missing, suspected'})
    table = pd.crosstab(found['label'][found['confident']], kinds[found['confident']])
    return {
        'images': dict(zip(vocab, targs.sum(0).astype(int).tolist(), strict=True)),
        **{str(name): column.to_dict() for name, column in table.items()},
    }


def own_scores(feats, targs, vocab, seed):
    "On validation rows as the table has them, with and without the suspects of the training rows."
    train, valid = map(np.array, random_split(len(targs), seed=seed))
    found, labels = suspect_labels(out_of_fold_probs(feats[train], targs[train], seed), targs[train], vocab), targs.copy()
    before, sure = scores(feats, labels, targs[valid], (train, valid)), found[found['confident']]
    labels[train[sure['row']], sure['label'].map(vocab.index)] = np.nan
    after = scores(feats, labels, targs[valid], (train, valid))
    return {f'{name}, gain': after[name] - before[name] for name in before}


def seconds(repeats=3):
    "100,000 rows and 20 labels, medians; every label has both values."
    rng = np.random.default_rng(0)
    targs = (rng.random((100_000, 20)) < 0.1).astype(int)
    probs = 1 / (1 + np.exp(rng.normal(size=targs.shape) + 2 - 4 * targs))
    lists = [np.flatnonzero(row).tolist() for row in targs]
    ways = {
        'suspect_labels': lambda: suspect_labels(probs, targs),
        'cleanlab': lambda: find_multilabel_issues_per_class(lists, probs, n_jobs=1),
    }
    found = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            found[name].append(time.perf_counter() - began)
    return {name: round(float(np.median(times)), 2) for name, times in found.items()}


def spread(rows):
    table = pd.DataFrame(rows)
    return pd.DataFrame({'mean': table.mean(), 'std': table.std()}).round(4)


def measure(seeds):
    feats, targs, vocab = sample()
    table = spread([one_split(feats, targs, vocab, seed) for seed in range(seeds)])
    result = {'labels': len(vocab), 'planted': table.to_dict('index')}
    if not is_standin(planet_sample()):
        gains = spread([own_scores(feats, targs, vocab, seed) for seed in range(seeds)])
        result |= {'own suspects': own_suspects(feats, targs, vocab), 'own scores without them': gains.to_dict('index')}
    return result, table['mean']


def bounds(name, means):
    wrong = []
    if means['precision at k'] < 8 * means['chance']:
        wrong.append(f'{name}: fewer than 8 times as many planted errors as by chance')
    if means['precision at k'] < means['cleanlab, precision at k']:
        wrong.append(f'{name}: cleanlab finds more')
    if means['confident removed, mAP'] < means['as planted, mAP']:
        wrong.append(f'{name}: removing the suspects costs mAP')
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seeds', type=int, default=10)
    parser.add_argument('--out', type=Path, default=Path(__file__).with_suffix('.json'))
    args, wrong = parser.parse_args(), []
    result = {'machine': f'{platform.machine()}, {os.cpu_count()} cores', 'seeds': args.seeds, 'seconds, 100,000 x 20': seconds()}
    real = os.environ.pop('MULTILABEL_NB_DATA', None)
    for folder in (None, real) if real else (None,):
        if folder:
            os.environ['MULTILABEL_NB_DATA'] = folder
        name = data_name(planet_sample())
        result[name], means = measure(args.seeds)
        wrong += bounds(name, means)
    print(json.dumps(result, indent=1) + '\n' + '\n'.join(wrong or ['all bounds hold']))
    write_atomically(args.out, (json.dumps(result, indent=1) + '\n').encode())
    return int(bool(wrong))


if __name__ == '__main__':
    sys.exit(main())
