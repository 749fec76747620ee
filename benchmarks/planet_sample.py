"""Measure recipes on the real Planet sample, on ten random splits (seeds 0 to 9) and on the split of the course's first source text (42).

    MULTILABEL_NB_DATA=… python benchmarks/planet_sample.py                                     # all that is not measured yet
    MULTILABEL_NB_DATA=… python benchmarks/planet_sample.py --only 'probe, 128 px' --splits 0 1 42
    MULTILABEL_NB_DATA=… python benchmarks/planet_sample.py --steps                             # what each step gains, and what not
    MULTILABEL_NB_DATA=… python benchmarks/planet_sample.py --curve                             # scores by the number of training tiles
    python benchmarks/planet_sample.py --list

Every result is written to `planet_sample.json` beside this file as soon as it is there, so a run that is broken off goes on where it was;
a run whose F2 is missing is done again, and keeps the seconds that it has; `--again` measures all anew, seconds too. The results page and
lesson 06 show the file. A trained recipe takes one to two minutes a split on two idle cores, the features of a network and view at 256
pixels ten to twenty seconds. Every setting was chosen inside training rows: the penalty of each probe anew in each split, each threshold on
out-of-fold probabilities of the training rows, the rate of `probe, then tuned` (of 5e-5, 2e-4 and 1e-3) inside the training rows of split
42, those of the published recipes by their authors.
"""

import argparse
import functools
import itertools
import json
import os
import platform
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from multilabel_nb.backbones import EMBEDDED_ARCH, load_backbone
from multilabel_nb.choosing import tune_thresholds
from multilabel_nb.datasets import multilabel_dataloaders, multilabel_datasets
from multilabel_nb.doubt import out_of_fold
from multilabel_nb.expected_fbeta import decide_fbeta
from multilabel_nb.files import write_atomically
from multilabel_nb.heads import MultiLevelFeatures, signed_root
from multilabel_nb.metrics import constant_prediction, fbeta_score
from multilabel_nb.onnx_features import in_onnxruntime
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
SPLITS, FRESH = [*range(10), TEXT_SPLIT], range(50, 60)  # nothing was chosen by a look at fresh ones
TARGET = Path(__file__).with_suffix('.json')
MEASURES = ['acc_17', 'acc_11', 'mAP', 'f2_at_0.5', 'f2_at_0.2', 'f2_tuned', 'f2_expected', 'seconds']
BOTH = (EMBEDDED_ARCH, 'tf_efficientnet_lite2')
QUARTERS = (0, 2, 1, 3)  # as `JoinedFeatures` turns
BEST = {'size': 256, 'levels': True, 'archs': BOTH, 'views': 4}
LARGE = {**BEST, 'size': 320, 'engine': 'onnx'}


# ---- the data


class Sample:
    "The table without rare labels and its targets."

    def __init__(self, src, min_count=10):
        self.whole = read_labels(src / 'labels.csv', verbose=False)
        self.df, _ = drop_rare_labels(self.whole, min_count)
        self.rows = torch.tensor(self.whole.index.get_indexer(self.df.index))
        self.src, self.folder = src, src / 'train'
        self.vocab = build_vocab(self.df, range(len(self.df)))
        self.targs = torch.as_tensor(one_hot(self.df.labels, self.vocab))

    def split(self, seed):
        "Positions for training and validation; 42 is the source text's own split, which fastai draws."
        sides = RandomSplitter(0.2, seed=seed)(self.df) if seed == TEXT_SPLIT else random_split(len(self.df), 0.2, seed)
        return [list(side) for side in sides]

    def datasets(self, splits):
        return multilabel_datasets(self.df, self.folder, self.vocab, splits)

    def features(self, size, levels=False, archs=(EMBEDDED_ARCH,), views=1, engine='torch', root=False):
        "Features of all rows, side by side over `archs` and in the mean over views, and the seconds they took."
        bodies = [(self.src, size, arch, levels, engine) for arch in archs]
        parts = [[turned_features(*body, n) for n in QUARTERS[:views]] for body in bodies]
        mean = [sum(feats for feats, _ in views) / len(views) for views in parts]
        passes = sum(seconds for views in parts for _, seconds in views) + sum(load_body(*body)[1] for body in bodies)
        feats = torch.cat(mean, 1)[self.rows]
        return signed_root(feats) if root else feats, read_images(self.src, size)[2] + passes


@functools.lru_cache(2)
def read_images(src, size):
    "All images of the table in batches, where they go, and the seconds it took to read them."
    df = read_labels(src / 'labels.csv', verbose=False)
    rows, vocab = list(range(len(df))), build_vocab(df, range(len(df)), verbose=False)
    dls = multilabel_dataloaders(multilabel_datasets(df, src / 'train', vocab, [rows, rows]), size=size, augment=False)
    began = time.perf_counter()
    return list(dls.valid), dls.device, time.perf_counter() - began


@functools.cache
def load_body(src, size, arch, levels, engine):
    "A backbone, and the seconds it took to write its graph, if one is needed."
    body = load_backbone(arch)
    body = (MultiLevelFeatures(body) if levels else body).eval()
    began = time.perf_counter()
    if engine == 'onnx':
        body = in_onnxruntime(body, read_images(src, size)[0][0][0])
    return body, time.perf_counter() - began


@functools.cache
def turned_features(src, size, arch, levels, engine, quarters):
    "The features of each image of the table, turned, and the seconds they took; once a run."
    batches, device, _ = read_images(src, size)
    body, _ = load_body(src, size, arch, levels, engine)
    began = time.perf_counter()
    turned = Batches(((images.rot90(quarters, (2, 3)), targs) for images, targs in batches), device)
    return extract_features(body, turned, progress=False)[0], time.perf_counter() - began


class Batches:
    "Batches, and where they go."

    def __init__(self, batches, device):
        self.batches, self.device = batches, device

    def __iter__(self):
        return iter(self.batches)


def real_sample():
    src = planet_sample()
    if is_standin(src):
        raise SystemExit('this measures the real sample: name the folder that holds planet_sample/ in MULTILABEL_NB_DATA')
    return Sample(src)


@functools.cache
def everything():
    return Sample(planet_sample(), min_count=1)


@functools.cache
def standin_sample():
    named = os.environ.pop('MULTILABEL_NB_DATA')
    made = Sample(planet_sample())
    os.environ['MULTILABEL_NB_DATA'] = named
    return made


# ---- the recipes: each takes the sample and a split, and answers with probabilities of the validation rows and the seconds it took


def nothing(sample, splits):
    "No label on any picture."
    return torch.zeros(len(splits[1]), len(sample.vocab)), 0.0, torch.zeros(len(splits[0]), len(sample.vocab))


def constant(sample, splits):
    "On every picture the labels that most training pictures have."
    train_targs = sample.targs[splits[0]]
    always = torch.as_tensor(constant_prediction(train_targs)).float()
    return always.expand(len(splits[1]), -1), 0.0, always.expand(len(splits[0]), -1)


def fitted(feats, targs):
    "A head and its penalty."
    decay = tune_weight_decay(feats, targs, progress=False).idxmin()
    return fit_probe(feats, targs, decay), decay


def held_out_probs(feats, targs, decay):
    "Out-of-fold probabilities of the rows that a head is fitted on, with its penalty."
    refit = lambda rest, held: probe_probs(fit_probe(feats[rest], targs[rest], decay), feats[held])  # noqa: E731
    return torch.as_tensor(out_of_fold(refit, len(feats), progress=False))


def every_label(sample, splits):
    "Every label on every picture."
    return torch.ones(len(splits[1]), len(sample.vocab)), 0.0, torch.ones(len(splits[0]), len(sample.vocab))


def probe(sample, splits, **how):
    "Features of all rows, then penalty and weights from the training rows."
    feats, seconds = sample.features(**how)
    began = time.perf_counter()
    probs, _, held_out = probe_of(feats, sample, splits)
    return probs, seconds + time.perf_counter() - began, held_out


def all_labels(sample, splits, **how):
    "The same on all 1000 rows with all 17 labels, rare ones too, on splits of their own."
    return probe(sample, splits, **how)


def from_standin(sample, splits, size):
    "A probe that has seen nothing but generated tiles; thresholds chosen on them, too."
    made = standin_sample()
    if made.vocab != sample.vocab:
        raise SystemExit(f'the stand-in is left with other labels: {made.vocab}')
    feats, seconds = made.features(size)
    began = time.perf_counter()
    head, _ = fitted(feats, made.targs)
    return probe_probs(head, sample.features(size)[0][splits[1]]), seconds + time.perf_counter() - began, None


def trained(dls, steps, model=None):
    "A new learner, taken through `steps`; a function of the learner."
    with tempfile.TemporaryDirectory() as scratch:
        learn = multilabel_learner(dls, model=model, path=scratch)
        with learn.no_bar(), learn.no_logging():
            began = time.perf_counter()
            steps(learn)
            seconds = time.perf_counter() - began
            return learn.get_preds()[0], seconds, None


def one_frozen_epoch(sample, splits, size):
    "One epoch of the head, five of the whole network, with lower learning rates for early layers (the tutorial on this sample)."

    def steps(learn):
        learn.fit_one_cycle(1, slice(2e-3))
        learn.unfreeze()
        learn.fit_one_cycle(5, slice(2e-3 / 2.6**4, 2e-3))

    bs = min(64, len(splits[0]))
    return trained(multilabel_dataloaders(sample.datasets(splits), size=size, bs=bs), steps)


def fine_tuned(sample, splits, size):
    "One call of fine_tune: three epochs of the head and three of everything (a tutorial on PASCAL)."
    dls = multilabel_dataloaders(sample.datasets(splits), size=size, bs=64)
    return trained(dls, lambda learn: learn.fine_tune(3, base_lr=3e-3, freeze_epochs=3))


def frozen_again(sample, splits, size):
    "Presizing; epochs of the head, of everything, of the last two groups, of the head again: 4, 4, 2, 3 (a tutorial on PASCAL)."
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

    bs = min(64, len(splits[0]))
    return trained(sample.datasets(splits).dataloaders(bs=bs, num_workers=0, **tfms), steps)


def tuned(sample, splits, size, epochs, lr):
    "The probe on all levels as a start, then the whole network, with lower learning rates for early layers, with flips and quarter turns."
    feats, feature_seconds = sample.features(size, True)
    train = splits[0]
    began = time.perf_counter()
    head, _ = fitted(feats[train], sample.targs[train])
    before = feature_seconds + time.perf_counter() - began
    model = torch.nn.Sequential(MultiLevelFeatures(load_backbone()), head)

    def steps(learn):
        learn.unfreeze()
        learn.fit_one_cycle(epochs, slice(lr / 2.6**4, lr))

    probs, seconds, _ = trained(multilabel_dataloaders(sample.datasets(splits), size=size), steps, model)
    return probs, before + seconds, None


RECIPES = {
    'no label': (nothing, {}),
    'every label': (every_label, {}),
    'the constant': (constant, {}),
    'head, then all: 6 epochs, 96 px': (one_frozen_epoch, {'size': 96}),
    'fine_tune: 6 epochs, 96 px': (fine_tuned, {'size': 96}),
    'unfrozen and frozen again: 13 epochs, 96 px': (frozen_again, {'size': 96}),
    'probe, 96 px': (probe, {'size': 96}),
    'probe, all levels, 96 px': (probe, {'size': 96, 'levels': True}),
    'probe, 128 px': (probe, {'size': 128}),
    'probe, all levels, 128 px': (probe, {'size': 128, 'levels': True}),
    'probe, then tuned, 128 px': (tuned, {'size': 128, 'epochs': 4, 'lr': 1e-3}),
    'probe, all levels, 256 px': (probe, {'size': 256, 'levels': True}),
    'probe, four views, 256 px': (probe, {'size': 256, 'levels': True, 'views': 4}),
    'probe, Lite2 alone, two views, 256 px': (probe, {**BEST, 'archs': BOTH[1:], 'views': 2}),
    'probe, two networks, 256 px': (probe, {**BEST, 'views': 1}),
    'probe, two networks, two views, 256 px': (probe, {**BEST, 'views': 2}),
    'probe, two networks, four views, 256 px': (probe, BEST),
    'probe, two networks, four views, 320 px, onnxruntime': (probe, LARGE),
    'probe, square roots, two views, 256 px, onnxruntime': (probe, {**BEST, 'views': 2, 'root': True, 'engine': 'onnx'}),
    'probe, square roots, four views, 320 px, onnxruntime': (probe, {**LARGE, 'root': True}),
    'probe fitted on the stand-in': (from_standin, {'size': 128}),
    'all 17 labels: no label': (nothing, {}),
    'all 17 labels: every label': (every_label, {}),
    'all 17 labels: the constant': (constant, {}),
    'all 17 labels: probe, two networks, four views, 256 px': (all_labels, BEST),
}


# ---- the steps: each against the one before it, or against the best of those that were kept


def more_features(sample, splits, sizes=(256,), **how):
    "Features of several sizes side by side."
    feats = torch.cat([sample.features(size, True, **how)[0] for size in sizes], 1)
    return probe_of(feats, sample, splits)


def probe_of(feats, sample, splits, other=None):
    "A probe on these features, and its probabilities for the same rows, or for `other` features of them."
    train, valid = splits
    head, decay = fitted(feats[train], sample.targs[train])
    held_out = held_out_probs(feats[train], sample.targs[train], decay)
    return probe_probs(head, (feats if other is None else other)[valid]), 0.0, held_out


def one_view_predicted(sample, splits):
    "Fitted on the mean of the views, used on one view."
    return probe_of(sample.features(**BEST)[0], sample, splits, sample.features(**{**BEST, 'views': 1})[0])


def mean_predicted(sample, splits):
    "Fitted on one view, used on the mean of the views, which is the mean of the logits."
    return probe_of(sample.features(**{**BEST, 'views': 1})[0], sample, splits, sample.features(**BEST)[0])


def views_as_rows(sample, splits):
    "Four rows of each training tile, one a view, with the penalty that its mean over views has; used on the mean of the views."
    train, valid = splits
    mean, rows = sample.features(**BEST)[0], []
    for n in range(len(QUARTERS)):
        parts = [turned_features(sample.src, 256, arch, True, 'torch', QUARTERS[n])[0] for arch in BOTH]
        rows.append(torch.cat(parts, 1)[sample.rows][train])
    _, decay = fitted(mean[train], sample.targs[train])
    held_out = held_out_probs(mean[train], sample.targs[train], decay)
    head = fit_probe(torch.cat(rows), sample.targs[train].repeat(len(rows), 1), decay)
    return probe_probs(head, mean[valid]), 0.0, held_out


def square_roots(sample, splits):
    "The square root of each feature, its sign kept."
    return probe_of(sample.features(**BEST, root=True)[0], sample, splits)


def neighbours(sample, splits):
    "The share of the nearest tiles that carry the label; their number (3 to 40) chosen by cross-validation."
    feats, (train, valid) = sample.features(256)[0].numpy(), splits
    model = make_pipeline(StandardScaler(), Normalizer(), KNeighborsRegressor())
    found = GridSearchCV(model, {'kneighborsregressor__n_neighbors': [3, 5, 10, 20, 40]}, scoring='neg_mean_squared_error', cv=3)
    found.fit(feats[train], sample.targs[train].numpy())
    held_out = cross_val_predict(found.best_estimator_, feats[train], sample.targs[train].numpy(), cv=5)
    return torch.as_tensor(found.predict(feats[valid])), 0.0, torch.as_tensor(held_out)


def penalty_per_label(sample, splits):
    "The penalty of each label by itself, by cross-validation."
    feats, train = sample.features(**BEST)[0], splits[0]
    each, candidates = {}, (0.03, 0.1, 0.3, 1.0)
    for decay in candidates:
        each[decay] = at_penalty(feats, sample, splits, decay)
    losses = torch.stack([per_label_loss(held_out, sample.targs[train]) for _, held_out in each.values()])
    columns = [(list(each.values())[i], j) for j, i in enumerate(losses.argmin(0))]
    return torch.stack([probs[:, j] for (probs, _), j in columns], 1), 0.0, torch.stack([out[:, j] for (_, out), j in columns], 1)


def at_penalty(feats, sample, splits, decay):
    "Probabilities of the validation rows, and out-of-fold ones of the training rows, with this penalty."
    train, valid = splits
    head = fit_probe(feats[train], sample.targs[train], decay)
    return probe_probs(head, feats[valid]), held_out_probs(feats[train], sample.targs[train], decay)


def per_label_loss(probs, targs):
    return torch.nn.functional.binary_cross_entropy(probs.float(), targs, reduction='none').mean(0)


def mean_of_penalties(sample, splits):
    "The mean of the logits of three penalties, .3, 1 and 3."
    feats = sample.features(**BEST)[0]
    made = [at_penalty(feats, sample, splits, decay) for decay in (0.3, 1.0, 3.0)]
    mean = lambda parts: torch.stack([p.logit(eps=1e-6) for p in parts]).mean(0).sigmoid()  # noqa: E731
    return mean([probs for probs, _ in made]), 0.0, mean([held_out for _, held_out in made])


def ridge(sample, splits):
    "A ridge regression from all probabilities to each label, fitted on out-of-fold probabilities (as the winner of 2017 did)."
    probs, _, held_out = probe(sample, splits, **BEST)
    model = RidgeCV([10**k for k in range(-2, 4)]).fit(held_out, sample.targs[splits[0]])
    both = [torch.as_tensor(model.predict(p)).clamp(0, 1) for p in (probs, held_out)]
    return both[0], 0.0, both[1]


def weather_rule(sample, splits):
    "Exactly one label of the weather: its probabilities are made to sum to 1."
    probs, _, held_out = probe(sample, splits, **BEST)
    columns = [sample.vocab.index(name) for name in ('clear', 'cloudy', 'haze', 'partly_cloudy')]
    both = [torch.as_tensor(p).float().clone() for p in (probs, held_out)]
    for p in both:
        p[:, columns] = p[:, columns].logit(eps=1e-6).softmax(1)
    return both[0], 0.0, both[1]


BASE, VIEWS, KEPT = 'probe, all levels, 256 px', 'probe, four views, 256 px', 'probe, two networks, four views, 256 px'
KEPT_320 = 'probe, two networks, four views, 320 px, onnxruntime'
STEPS = {  # its name: (what it does, or the recipe that it is, what it is held against)
    'nearest neighbours': (neighbours, BASE),
    'four views averaged': (VIEWS, BASE),
    'a second network beside the first': ('probe, two networks, 256 px', BASE),
    'a second network, four views': (KEPT, VIEWS),
    'two views and not four': ('probe, two networks, two views, 256 px', KEPT),
    'the second network alone': (functools.partial(more_features, archs=BOTH[1:], views=4), KEPT),
    'fitted on the mean, used on one view': (one_view_predicted, KEPT),
    'fitted on one view, used on the mean': (mean_predicted, KEPT),
    'views as more rows': (views_as_rows, KEPT),
    '320 px in place of 256 px': (KEPT_320, KEPT),
    '128 px features added to 256 px': (functools.partial(more_features, sizes=(256, 128), archs=BOTH, views=4), KEPT),
    'square roots of the features': (square_roots, KEPT),
    'square roots, at 320 px': ('probe, square roots, four views, 320 px, onnxruntime', KEPT_320),
    'a penalty for each label': (penalty_per_label, KEPT),
    'mean of three penalties': (mean_of_penalties, KEPT),
    'ridge over the probabilities': (ridge, KEPT),
    'one weather label': (weather_rule, KEPT),
}
CURVE = {  # recipes by the number of training tiles
    KEPT: probe,
    BASE: probe,
    'unfrozen and frozen again: 13 epochs, 96 px': frozen_again,
}
CURVE_TILES = (50, 100, 200, 400)


# ---- results


def measure(recipe, sample, seed, tiles=None, **settings):
    "One recipe on one split, or on the first `tiles` of its training rows: what the file keeps of it."
    train, valid = sample.split(seed)
    if tiles:
        train = [train[i] for i in np.random.default_rng(seed).permutation(len(train))[:tiles]]
    set_seed(seed)
    probs, seconds, held_out = recipe(sample, [train, valid], **settings)
    targs, train_targs = sample.targs[valid], sample.targs[train]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # labels without an image in these rows
        report = score_report(probs.clamp(0, 1), targs, train_targs)
        f2 = f2_scores(probs.clamp(0, 1), targs, held_out, train_targs)
    accuracy, n_labels = report.accuracy_multi['model'], len(sample.vocab)
    on_17 = (accuracy * n_labels + N_ALL_LABELS - n_labels) / N_ALL_LABELS  # the dropped labels counted in: always off, so always right
    scores = {'acc_17': on_17, 'acc_11': accuracy if n_labels == 11 else None, 'mAP': report.mAP['model'], **f2}
    rounded = {k: None if v is None else round(float(v), 4) for k, v in scores.items()}
    return {**rounded, 'seconds': round(seconds, 1), 'threads': torch.get_num_threads()}


def f2_scores(probs, targs, held_out, train_targs):
    "F2 of each picture, in the mean: at .5, at .2, at a shared threshold chosen on the training rows, with the highest expectation."
    f2 = lambda on: fbeta_score(on, targs)  # noqa: E731
    found = {f'f2_at_{t}': f2((probs > t).float()) for t in (0.5, 0.2)}
    found['f2_tuned'] = None
    if held_out is not None:
        tuned = tune_thresholds(held_out.clamp(0, 1), train_targs, 'f2', False, 'samples')
        found['f2_tuned'] = f2((probs > tuned.thresh).float())
    return {**found, 'f2_expected': f2(decide_fbeta(probs).astype(float))}


def read_file(target=TARGET):
    return json.loads(target.read_text()) if target.exists() else {}


def read_runs(part='runs', target=TARGET):
    return read_file(target).get(part, {})


def summary(runs):
    "Mean over the ten splits, half the width of its 95 % interval (Student's t), and split 42 beside them."
    rows = []
    for name in (name for name in RECIPES if name in runs):
        per_split = pd.DataFrame(runs[name]).T.reindex(columns=MEASURES).astype(float)
        ten = per_split[[int(seed) in range(10) for seed in per_split.index]]
        half = ten.std() * student.ppf(0.975, len(ten) - 1) / len(ten) ** 0.5 if len(ten) > 1 else ten.std()
        row = {'what': name, 'splits': len(ten), **ten.mean().round(4), **half.drop('seconds').round(4).add_prefix('half_')}
        text_split = per_split.loc[str(TEXT_SPLIT)] if str(TEXT_SPLIT) in per_split.index else pd.Series(dtype=float)
        rows.append({**row, **text_split.add_prefix('at_42_')})
    return pd.DataFrame(rows)


def keep(part, name, key, result, target=TARGET):
    "Add one result to the file, as it is now (another run may write to it), under a temporary name first."
    told = read_file(target)
    results = told.setdefault(part, {})
    results.setdefault(name, {})[str(key)] = result
    order = {'runs': RECIPES, 'steps': STEPS}.get(part) or list(results)
    by_number = lambda item: [int(x) for x in item[0].split('/')]  # noqa: E731
    told[part] = {name: dict(sorted(results[name].items(), key=by_number)) for name in order if name in results}
    told['machine'] = f'{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__.split("+")[0]}'
    told['recipes'] = {name: {'what': recipe.__doc__, **how} for name, (recipe, how) in RECIPES.items()}
    told['against'] = {name: {'recipe': step if isinstance(step, str) else None, 'than': than} for name, (step, than) in STEPS.items()}
    told['summary'] = json.loads(summary(told['runs']).to_json(orient='records'))
    parts = {part: told[part] for part in ('machine', 'recipes', 'against', 'summary', 'runs', 'steps', 'curve') if part in told}
    write_atomically(target, (json.dumps(parts, indent=1) + '\n').encode())


def measured(part, name, key):
    return {*MEASURES} - {'seconds'} <= set(read_runs(part).get(name, {}).get(str(key), {}))


def add(part, name, key, again, recipe, sample, seed, **how):
    "Measure what is not in the file. A run that only lacked scores keeps its seconds, which were taken on idle cores."
    if measured(part, name, key) and not again:
        return
    result, before = measure(recipe, sample, seed, **how), read_runs(part).get(name, {}).get(str(key), {})
    kept = {} if again else {k: before[k] for k in ('seconds', 'threads') if k in before}
    if part != 'runs':  # features were there already
        result = {k: v for k, v in result.items() if k not in ('seconds', 'threads')}
    keep(part, name, key, {**result, **kept})
    print(f'{name:40} {key}  {result}', flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', nargs='+', default=list(RECIPES), metavar='RECIPE', choices=[*RECIPES, *STEPS], help='recipes, by name')
    parser.add_argument(
        '--splits', nargs='+', type=int, default=SPLITS, choices=[*SPLITS, *FRESH], metavar='SEED', help='0 to 9, 42, 50 to 59'
    )
    parser.add_argument('--again', action='store_true', help='measure what is in the file already')
    parser.add_argument('--list', action='store_true', help='name the recipes and how many splits of each are in the file')
    parser.add_argument('--steps', action='store_true', help='what each step gains, instead of the recipes')
    parser.add_argument('--curve', action='store_true', help='scores by the number of training tiles, instead of the recipes')
    args = parser.parse_args()
    if args.list:
        done = {name: sum(measured('runs', name, seed) for seed in SPLITS) for name in RECIPES}
        print('\n'.join(f'{name:56} {n:2} of {len(SPLITS)}' for name, n in done.items()))
        return
    sample, ten = real_sample(), [seed for seed in args.splits if seed != TEXT_SPLIT]
    if args.steps:
        for name, seed in itertools.product([n for n, (step, _) in STEPS.items() if callable(step)], ten):
            add('steps', name, seed, args.again, STEPS[name][0], sample, seed)
    elif args.curve:
        for name, tiles, seed in itertools.product([n for n in CURVE if n in args.only], CURVE_TILES, ten):
            add('curve', name, f'{tiles}/{seed}', args.again, CURVE[name], sample, seed, tiles=tiles, **RECIPES[name][1])
    else:
        for name, seed in itertools.product([n for n in args.only if n in RECIPES], args.splits):
            rows = everything() if name.startswith('all 17 labels') else sample
            add('runs', name, seed, args.again, RECIPES[name][0], rows, seed, **RECIPES[name][1])
    print(summary(read_runs()).to_string(index=False, na_rep=''))


if __name__ == '__main__':
    main()
