"""Multi-label image classification with fastai and PyTorch. Every public name can be imported from here; its room is loaded at first use."""

__version__ = "0.1.0"

import lazy_loader

# `__init__.pyi` lists the names: it is written with the modules, and type checkers read it too.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
