"""The examples in the docstrings do what they say."""

import doctest
import importlib
import pkgutil

import pytest
import torch
from lessons import MACHINERY

import multilabel_nb
from multilabel_nb.readers import read_labels
from multilabel_nb.sources import data_name, planet_sample
from multilabel_nb.splits import random_split
from multilabel_nb.tables import build_vocab, drop_rare_labels

MODULES = [m.name for m in pkgutil.walk_packages(multilabel_nb.__path__, 'multilabel_nb.') if not m.ispkg and '._' not in m.name]


@pytest.fixture(scope='module')
def names(tmp_path_factory):
    "What an example may take for granted: the table of lesson 01, torch, and a folder to write in."
    src = planet_sample()
    df = read_labels(src / 'labels.csv', verbose=False)
    train, valid = random_split(len(df))
    known = {'src': src, 'df': df, 'train': train, 'valid': valid, 'splits': (train, valid), 'vocab': build_vocab(df, train, verbose=False)}
    known |= {'torch': torch, 'tmp': tmp_path_factory.mktemp('examples')}
    return {**known, 'drop_rare_labels': drop_rare_labels, 'data_name': data_name, 'planet_sample': planet_sample}


@pytest.mark.parametrize('name', MODULES)
def test_examples(name, names):
    module = importlib.import_module(name)
    failed, tried = doctest.testmod(module, extraglobs=names, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert not failed and (tried or name.split('.')[1] in MACHINERY)
