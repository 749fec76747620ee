"""The real Planet sample written out as PASCAL is, so that the lesson on PASCAL's layout meets real images too."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

N_TEST, N_VALID, SEED = 200, 160, 42


def write_as_pascal(
    src: Path,  # the real Planet sample: `labels.csv`, `train/`
    dest: Path,  # folder to make
) -> Path:  # `dest`, with `train.csv` (`fname,labels,is_valid`), `test.csv`, `train/` and `test/` of links to the images
    "Share the images out among training, validation and test rows, and link them."
    df = pd.read_csv(src / 'labels.csv').rename(columns={'image_name': 'fname', 'tags': 'labels'})
    df['fname'] += '.jpg'
    order = np.random.default_rng(SEED).permutation(len(df))
    test, train = df.iloc[order[:N_TEST]], df.iloc[order[N_TEST:]]
    parts = {'test': test, 'train': train.assign(is_valid=np.arange(len(train)) < N_VALID)}
    for part, rows in parts.items():
        (dest / part).mkdir(parents=True)
        rows.to_csv(dest / f'{part}.csv', index=False)
        for name in rows.fname:
            os.symlink(src / 'train' / name, dest / part / name)
    return dest


def with_pascal(
    folder: Path,  # holds `planet_sample/`, perhaps other real sets
    tmp: Path,  # an empty folder
) -> Path:  # `folder` if it holds PASCAL, else `tmp`: links to all of it, and the Planet sample as PASCAL
    "A folder of real sets that has one in PASCAL's layout."
    if (folder / 'pascal_2007').exists():
        return folder
    for entry in folder.iterdir():
        os.symlink(entry, tmp / entry.name)
    write_as_pascal(folder / 'planet_sample', tmp / 'pascal_2007')
    print('03_datablock: pascal_2007 is planet_sample in the layout of PASCAL')
    return tmp
