"""Measure recipes on the real Planet sample, on ten random splits (seeds 0 to 9) and on the split of the course's first source text (42).

    MULTILABEL_NB_DATA=… python benchmarks/planet_sample.py                                     # all that is not measured yet
    MULTILABEL_NB_DATA=… python benchmarks/planet_sample.py --only 'probe, 128 px' --splits 0 1 42
    python benchmarks/planet_sample.py --list

Every result is written to `planet_sample.json` beside this file as soon as it is there, so a run that is broken off goes on where it was;
`--again` measures anew. The results page and lesson 06 show the file. A trained recipe takes one to two minutes a split on two
idle cores, a probe half a minute at most. Every setting was chosen inside training rows: the penalty of each probe anew in each split, the
rate of `probe, then tuned` (of 5e-5, 2e-4 and 1e-3) inside the training rows of split 42, those of the source texts by their authors.
"""

import argparse
import functools
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from scipy.stats import t as student

from multilabel_nb.backbones import load_backbone
from multilabel_nb.datasets import multilabel_dataloaders, multilabel_datasets
from multilabel_nb.files import write_atomically
from multilabel_nb.heads import MultiLevelFeatures
from multilabel_nb.images import open_rgb
from multilabel_nb.metrics import constant_prediction
from multilabel_nb.readers import read_labels
from multilabel_nb.reports import score_report
from multilabel_nb.sources import is_standin, planet_sample
from multilabel_nb.splits import random_split
from multilabel_nb.tables import build_vocab, drop_rare_labels, one_hot
from multilabel_nb.training import (
    extract_features,
    fit_probe,
    multilabel_learner,
    probe_probs,
    tune_weight_decay,
)

# isort: split
from fastai.data.transforms import RandomSplitter
from fastai.torch_core import set_seed
from fastai.vision.all import IntToFloatTensor, Normalize, Resize, ToTensor, aug_transforms

N_ALL_LABELS, TEXT_SPLIT = 17, 42
SPLITS = [*range(10), TEXT_SPLIT]
TARGET = Path(__file__).with_suffix('.json')
MEASURES = ['acc_17', 'acc_11', 'mAP', 'seconds']


# ---- the data


class Sample:
    "The table without rare labels, its targets, and features made at most once a run."

    def __init__(self, src):
        df, _ = drop_rare_labels(read_labels(src / 'labels.csv', verbose=False), min_count=10)
        self.df, self.folder = df, src / 'train'
        self.vocab = build_vocab(df, range(len(df)))
        self.targs = torch.as_tensor(one_hot(df.labels, self.vocab))
        open_rgb(self.folder / f'{df.image_name.iloc[0]}.jpg')

    def split(self, seed):
        "Positions for training and validation; 42 is the source text's own split, which fastai draws."
        sides = RandomSplitter(0.2, seed=seed)(self.df) if seed == TEXT_SPLIT else random_split(len(self.df), 0.2, seed)
        return [list(side) for side in sides]

    def datasets(self, splits):
        return multilabel_datasets(self.df, self.folder, self.vocab, splits)

    @functools.cache  # noqa: B019  one object a run
    def features(self, size, levels):
        "Each image through the body once; the seconds include reading the files."
        rows = list(range(len(self.df)))
        dls = multilabel_dataloaders(self.datasets([rows, rows]), size=size, augment=False)
        body = MultiLevelFeatures(load_backbone()) if levels else load_backbone()
        began = time.perf_counter()
        feats, _ = extract_features(body, dls.valid, progress=False)
        return feats, time.perf_counter() - began


def real_sample():
    src = planet_sample()
    if is_standin(src):
        raise SystemExit('this measures the real sample: name the folder that holds planet_sample/ in MULTILABEL_NB_DATA')
    return Sample(src)


@functools.cache
def standin_sample():
    named = os.environ.pop('MULTILABEL_NB_DATA')
    made = Sample(planet_sample())
    os.environ['MULTILABEL_NB_DATA'] = named
    return made


# ---- the recipes: each takes the sample and a split, and answers with probabilities of the validation rows and the seconds it took


def nothing(sample, splits):
    "No label on any picture."
    return torch.zeros(len(splits[1]), len(sample.vocab)), 0.0


def constant(sample, splits):
    "On every picture the labels that most training pictures have."
    train_targs = sample.targs[splits[0]]
    return torch.as_tensor(constant_prediction(train_targs)).float().expand(len(splits[1]), -1), 0.0


def probe(sample, splits, size, levels=False):
    "Features of all rows, then penalty and weights from the training rows."
    feats, seconds = sample.features(size, levels)
    train, valid = splits
    began = time.perf_counter()
    head = fit_probe(feats[train], sample.targs[train], tune_weight_decay(feats[train], sample.targs[train]).idxmin())
    probs = probe_probs(head, feats[valid])
    return probs, seconds + time.perf_counter() - began


def from_standin(sample, splits, size):
    "A probe that has seen nothing but generated tiles."
    made = standin_sample()
    if made.vocab != sample.vocab:
        raise SystemExit(f'the stand-in is left with other labels: {made.vocab}')
    feats, seconds = made.features(size, False)
    began = time.perf_counter()
    head = fit_probe(feats, made.targs, tune_weight_decay(feats, made.targs).idxmin())
    return probe_probs(head, sample.features(size, False)[0][splits[1]]), seconds + time.perf_counter() - began


def trained(dls, steps, model=None):
    "A new learner, taken through `steps`; a function of the learner."
    with tempfile.TemporaryDirectory() as scratch:
        learn = multilabel_learner(dls, model=model, path=scratch)
        with learn.no_bar(), learn.no_logging():
            began = time.perf_counter()
            steps(learn)
            seconds = time.perf_counter() - began
            return learn.get_preds()[0], seconds


def text_000(sample, splits, size):
    "One frozen epoch, five of everything at graded rates."

    def steps(learn):
        learn.fit_one_cycle(1, slice(2e-3))
        learn.unfreeze()
        learn.fit_one_cycle(5, slice(2e-3 / 2.6**4, 2e-3))

    return trained(multilabel_dataloaders(sample.datasets(splits), size=size, bs=64), steps)


def text_001(sample, splits, size):
    "One call of fine_tune: three frozen epochs and three of everything."
    dls = multilabel_dataloaders(sample.datasets(splits), size=size, bs=64)
    return trained(dls, lambda learn: learn.fine_tune(3, base_lr=3e-3, freeze_epochs=3))


def text_004(sample, splits, size):
    "Presizing, then frozen, unfrozen, down to the last two groups, down to the head; thirteen epochs."
    presize = round(size * 460 / 224)  # as the text's own sizes
    augments = aug_transforms(size=size)
    stats = Normalize.from_stats([0.5] * 3, [0.5] * 3, cuda=False)
    tfms = {'after_item': [Resize(presize), ToTensor()], 'after_batch': [IntToFloatTensor(), *augments, stats]}

    def steps(learn):
        learn.fit_one_cycle(4, 5e-2)
        learn.unfreeze()
        learn.fit_one_cycle(4, slice(1e-4 / 100, 1e-4))
        learn.freeze_to(-2)
        learn.fit_one_cycle(2, 1e-5)
        learn.freeze_to(-1)
        learn.fit_one_cycle(3, 5e-3)

    return trained(sample.datasets(splits).dataloaders(bs=64, num_workers=0, **tfms), steps)


def tuned(sample, splits, size, epochs, lr):
    "The probe on all levels as a start, then everything at graded rates, with flips and quarter turns."
    feats, feature_seconds = sample.features(size, True)
    train = splits[0]
    began = time.perf_counter()
    head = fit_probe(feats[train], sample.targs[train], tune_weight_decay(feats[train], sample.targs[train]).idxmin())
    before = feature_seconds + time.perf_counter() - began
    model = torch.nn.Sequential(MultiLevelFeatures(load_backbone()), head)

    def steps(learn):
        learn.unfreeze()
        learn.fit_one_cycle(epochs, slice(lr / 2.6**4, lr))

    probs, seconds = trained(multilabel_dataloaders(sample.datasets(splits), size=size), steps, model)
    return probs, before + seconds


RECIPES = {
    'no label': (nothing, {}),
    'the constant': (constant, {}),
    'text 000, 96 px': (text_000, {'size': 96}),
    'text 001, 96 px': (text_001, {'size': 96}),
    'text 004, 96 px': (text_004, {'size': 96}),
    'probe, 96 px': (probe, {'size': 96}),
    'probe, 128 px': (probe, {'size': 128}),
    'probe, all levels, 128 px': (probe, {'size': 128, 'levels': True}),
    'probe, then tuned, 128 px': (tuned, {'size': 128, 'epochs': 4, 'lr': 1e-3}),
    'probe, all levels, 256 px': (probe, {'size': 256, 'levels': True}),
    'probe fitted on the stand-in': (from_standin, {'size': 128}),
}


# ---- results


def measure(name, sample, seed):
    "One recipe on one split: what the file keeps of it."
    recipe, settings = RECIPES[name]
    splits = sample.split(seed)
    set_seed(seed)
    probs, seconds = recipe(sample, splits, **settings)
    report = score_report(probs, sample.targs[splits[1]], sample.targs[splits[0]])
    accuracy, n_labels = report.accuracy_multi['model'], len(sample.vocab)
    on_17 = (accuracy * n_labels + N_ALL_LABELS - n_labels) / N_ALL_LABELS  # the dropped labels counted in: always off, so always right
    scores = {'acc_17': on_17, 'acc_11': accuracy, 'mAP': report.mAP['model']}
    return {**{k: round(float(v), 4) for k, v in scores.items()}, 'seconds': round(seconds, 1), 'threads': torch.get_num_threads()}


def read_runs(target=TARGET):
    return json.loads(target.read_text()).get('runs', {}) if target.exists() else {}


def summary(runs):
    "Mean over the ten splits, half the width of its 95 % interval (Student's t), and split 42 beside them."
    rows = []
    for name in (name for name in RECIPES if name in runs):
        per_split = pd.DataFrame(runs[name]).T[MEASURES]
        ten = per_split.drop(index=str(TEXT_SPLIT), errors='ignore')
        half = ten.std() * student.ppf(0.975, len(ten) - 1) / len(ten) ** 0.5 if len(ten) > 1 else ten.std()
        row = {'what': name, 'splits': len(ten), **ten.mean().round(4), **half.drop('seconds').round(4).add_prefix('half_')}
        text_split = per_split.loc[str(TEXT_SPLIT)] if str(TEXT_SPLIT) in per_split.index else pd.Series(dtype=float)
        rows.append({**row, **text_split.add_prefix('at_42_')})
    return pd.DataFrame(rows)


def keep(name, seed, result, target=TARGET):
    "Add one result to the file, as it is now (another run may write to it), under a temporary name first."
    runs = read_runs(target)
    runs.setdefault(name, {})[str(seed)] = result
    runs = {name: dict(sorted(runs[name].items(), key=lambda item: int(item[0]))) for name in RECIPES if name in runs}
    machine = f'{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__.split("+")[0]}'
    settings = {name: {'what': recipe.__doc__, **how} for name, (recipe, how) in RECIPES.items()}
    table = json.loads(summary(runs).to_json(orient='records'))
    result = {'machine': machine, 'recipes': settings, 'summary': table, 'runs': runs}
    write_atomically(target, (json.dumps(result, indent=1) + '\n').encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', nargs='+', default=list(RECIPES), metavar='RECIPE', choices=list(RECIPES), help='recipes, by name')
    parser.add_argument('--splits', nargs='+', type=int, default=SPLITS, choices=SPLITS, metavar='SEED', help='0 to 9, and 42')
    parser.add_argument('--again', action='store_true', help='measure what is in the file already')
    parser.add_argument('--list', action='store_true', help='name the recipes and how many splits of each are in the file')
    args = parser.parse_args()
    if args.list:
        print('\n'.join(f'{name:30} {len(read_runs().get(name, {})):2} of {len(SPLITS)}' for name in RECIPES))
        return
    sample = real_sample()
    for name in args.only:
        for seed in args.splits:
            if args.again or str(seed) not in read_runs().get(name, {}):
                result = measure(name, sample, seed)
                keep(name, seed, result)
                print(f'{name:30} split {seed:2}  {result}', flush=True)
    print(summary(read_runs()).to_string(index=False, na_rep=''))


if __name__ == '__main__':
    main()
