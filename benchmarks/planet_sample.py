"""Measure the recipe of the course's first source text and the probe of lesson 06 on the real Planet sample, side by side in one run.

Needs the real images: `MULTILABEL_NB_DATA=… python benchmarks/planet_sample.py`. Takes about five minutes on two cores and writes
`planet_sample.json` beside this file, which lesson 06 shows.
"""

import json
import os
import platform
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

from multilabel_nb.datasets import multilabel_dataloaders, multilabel_datasets
from multilabel_nb.explore import build_vocab, drop_rare, one_hot, read_labels
from multilabel_nb.metrics import score_report
from multilabel_nb.sources import is_standin, open_rgb, planet_sample
from multilabel_nb.training import cached_features, fit_probe, load_body, multilabel_learner, probe_probs, probe_splits, tune_weight_decay

# isort: split
from fastai.data.transforms import RandomSplitter
from fastai.torch_core import set_seed

SEED, SIZE, N_ALL_LABELS = 42, 128, 17


def real_sample():
    "Folder, table and splits of the real sample."
    src = planet_sample()
    if is_standin(src):
        raise SystemExit('this measures the real sample: name the folder that holds planet_sample/ in MULTILABEL_NB_DATA')
    df, _ = drop_rare(read_labels(src / 'labels.csv', verbose=False), min_count=10)
    return src, df, [list(side) for side in RandomSplitter(0.2, seed=SEED)(df)]


def on_17(accuracy, n_labels):
    "The same accuracy with the dropped labels counted in: always off, so always right."
    return (accuracy * n_labels + N_ALL_LABELS - n_labels) / N_ALL_LABELS


def row(name, report, seconds, who='model'):
    "One line of the table."
    n_labels = int(report.labels_judged.iloc[0].split()[-1])
    accuracy, mean_ap = report.accuracy_multi[who], report.mAP[who]
    return {'what': name, 'seconds': seconds, 'acc_11': accuracy, 'acc_17': on_17(accuracy, n_labels), 'mAP': mean_ap}


def all_features(src, df, vocab):
    "Each image through the body once; the seconds include reading the files."
    rows = list(range(len(df)))
    dls = multilabel_dataloaders(multilabel_datasets(df, src / 'train', vocab, [rows, rows]), size=SIZE, augment=False)
    began = time.perf_counter()
    feats, targs = cached_features(load_body(), dls.valid)
    return feats, targs, time.perf_counter() - began


def probe_on(feats, targs, splits):
    "Tuned inside the training rows, scored once."
    train, valid = (torch.tensor(side) for side in splits)
    began = time.perf_counter()
    head = fit_probe(feats[train], targs[train], tune_weight_decay(feats[train], targs[train]).idxmin())
    probs = probe_probs(head, feats[valid])
    return score_report(probs, targs[valid], targs[train]), time.perf_counter() - began


def recipe_on(src, df, vocab, splits):
    "One frozen epoch, five of everything at graded rates."
    dls = multilabel_dataloaders(multilabel_datasets(df, src / 'train', vocab, splits), size=SIZE, bs=64)
    set_seed(SEED)
    with tempfile.TemporaryDirectory() as scratch:
        learn = multilabel_learner(dls, path=scratch)
        began = time.perf_counter()
        learn.fit_one_cycle(1, slice(2e-3))
        learn.unfreeze()
        learn.fit_one_cycle(5, slice(2e-3 / 2.6**4, 2e-3))
        seconds = time.perf_counter() - began
        probs, targs = learn.get_preds()
    return score_report(probs, targs, one_hot(df.labels.iloc[splits[0]], vocab)), seconds


def from_standin(src, df, vocab, feats):
    "A probe that has seen nothing but generated tiles, asked about the real ones."
    named = os.environ.pop('MULTILABEL_NB_DATA')
    made = planet_sample()
    os.environ['MULTILABEL_NB_DATA'] = named
    made_df, _ = drop_rare(read_labels(made / 'labels.csv', verbose=False), min_count=10)
    made_vocab = build_vocab(made_df, range(len(made_df)))
    if made_vocab != vocab:
        raise SystemExit(f'the stand-in is left with other labels: {made_vocab}')
    made_feats, made_targs, _ = all_features(made, made_df, vocab)
    head = fit_probe(made_feats, made_targs, tune_weight_decay(made_feats, made_targs).idxmin())
    return score_report(probe_probs(head, feats), one_hot(df.labels, vocab), made_targs)


def main():
    src, df, splits = real_sample()
    vocab = build_vocab(df, splits[0])
    open_rgb(src / 'train' / f'{df.image_name.iloc[0]}.jpg')
    feats, targs, feature_seconds = all_features(src, df, vocab)
    report, seconds = probe_on(feats, targs, splits)
    began = time.perf_counter()
    answers = [score_report(*answer) for answer in probe_splits(feats, targs, range(10))]
    ten_seconds = time.perf_counter() - began
    ten = pd.DataFrame([row('', answer, 0) for answer in answers])
    recipe, recipe_seconds = recipe_on(src, df, vocab, splits)
    rows = [
        row('no label', report, 0, 'all-negative'),
        row('the constant', report, 0, 'constant'),
        row('recipe, split 42', recipe, recipe_seconds),
        row('probe, split 42', report, feature_seconds + seconds),
        {**ten.mean(numeric_only=True), 'what': 'probe, mean of 10 splits', 'seconds': feature_seconds + ten_seconds},
        {**ten.std(numeric_only=True), 'what': 'probe, standard deviation', 'seconds': None},
        row('probe fitted on the stand-in', from_standin(src, df, vocab, feats), None),
    ]
    table = pd.DataFrame(rows)[['what', 'acc_17', 'acc_11', 'mAP', 'seconds']].round({'acc_17': 3, 'acc_11': 3, 'mAP': 3, 'seconds': 1})
    print(table.to_string(index=False, na_rep=''))
    print(f'\nThe recipe takes {recipe_seconds / (feature_seconds + seconds):.0f} times as long as the probe.')
    machine = f'{torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__.split("+")[0]}'
    result = {'machine': machine, 'size': SIZE, 'rows': json.loads(table.to_json(orient='records'))}
    target = Path(__file__).with_suffix('.json')
    partial = target.with_suffix('.partial')
    partial.write_text(json.dumps(result, indent=1) + '\n')
    os.replace(partial, target)


if __name__ == '__main__':
    main()
