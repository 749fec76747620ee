"""Multi-label image classification with fastai and PyTorch. Every public name can be imported from here; its room is loaded at first use."""

__version__ = "0.1.0"

import re
import sys
from importlib.machinery import PathFinder

import lazy_loader

# `__init__.pyi` lists the names: it is written with the modules, and type checkers read it too.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def _add_sections(room):
    "Put what the comments behind parameters say into the docstrings: `help` reads no comments, and `_parameters` was written from them."
    from textwrap import dedent

    from ._parameters import SECTIONS

    for name, sections in SECTIONS.get(room.__name__.removeprefix(f'{__name__}.'), {}).items():
        found = room
        for part in name.split('.'):
            found = getattr(found, part, None)  # None: renamed since `_parameters` was written
        found = getattr(found, '__func__', found)  # of a class method
        if found is not None and found.__doc__:
            first, _, rest = found.__doc__.partition('\n')
            before, *after = re.split(r'\n\n(?=\w+\n-{3,}\n)', f'{first}\n{dedent(rest)}'.strip(), maxsplit=1)
            found.__doc__ = '\n\n'.join([before, sections, *after])


class _RoomFinder:
    "Finds the rooms, as without it; what a room defines is documented as soon as it has run."

    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target) if name.startswith(f'{__name__}.') else None
        if spec and spec.loader:

            def run(room, plain=spec.loader.exec_module):
                plain(room)
                _add_sections(room)

            spec.loader.exec_module = run
        return spec


sys.meta_path.insert(0, _RoomFinder)
