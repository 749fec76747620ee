"""Packaging of `multilabel_nb`; every name, version and requirement comes from `settings.ini`."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

parser = ConfigParser(delimiters=['='])
parser.read('settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']

suffix = '_requirements'
extras = {key.removesuffix(suffix): cfg[key].split() for key in cfg if key.endswith(suffix)}
extras['dev'] = sorted({req for reqs in extras.values() for req in reqs})

setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=Path('README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author=cfg['author'],
    author_email=cfg['author_email'],
    license='Apache-2.0',
    url=cfg['git_url'],
    keywords=cfg['keywords'],
    packages=find_packages(include=[f'{cfg["lib_path"]}*']),
    package_data={'': ['*.pyi', 'py.typed', '*.css', '*.js']},
    python_requires=f'>={cfg["min_python"]}',
    install_requires=cfg['requirements'].split(),
    extras_require=extras,
    entry_points={
        'nbdev': [f'{cfg["lib_path"]}={cfg["lib_path"]}._modidx:d'],
        'console_scripts': cfg['console_scripts'].split(),
    },
    zip_safe=False,
)
