"""The checks behind the exercises: `check('05.1', answer)`. A lesson's checks are imported when the first of them is asked for."""

from .core import Verdict, check

__all__ = ['Verdict', 'check']
