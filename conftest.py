"""What nbval needs to test notebooks that nbdev has cleaned, and the marker `slow`."""

import os
import sys
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
sys.path.append(str(ROOT / 'tools'))

import verified  # noqa: E402
from kernels import OwnSockets, threads_each  # noqa: E402
from lessons import notebook_files  # noqa: E402

WATCH = verified.Watch()  # what this run finds out about each notebook, for the stamps of the site


def pytest_addoption(parser):
    parser.addoption('--slow', action='store_true', help='run the tests marked slow too')
    parser.addoption('--part', action='store_true', help='of tests with many cases alike (marker `many`), only as many as the marker says')
    parser.addoption('--kills', type=int, help='how often a test kills what it tests; else as it says')
    parser.addoption('--load-seconds', type=float, default=4, help='how long threads ask one predictor')


def pytest_configure(config):
    config.addinivalue_line('markers', 'slow: minutes rather than seconds; runs with --slow')
    config.addinivalue_line('markers', 'many(n): a test with many cases alike, of which --part takes n')
    config.addinivalue_line('markers', 'beyond_gate: too long for `make gate`; runs in `make test`')
    # The stored outputs are those of the embedded data.
    os.environ.pop('MULTILABEL_NB_DATA', None)
    option = config.option
    # Set before workers of pytest-xdist start, for they inherit it.
    os.environ.setdefault('OMP_NUM_THREADS', threads_each(getattr(option, 'numprocesses', None) or 1))
    if option.nbval:
        reach_kernels_over_sockets()
        option.nbval_current_env = not option.nbval_kernel_name
        option.nbval_sanitize_with = option.nbval_sanitize_with or str(ROOT / 'nbs' / 'sanitize.cfg')
        option.nbval_cell_timeout = min(option.nbval_cell_timeout, 300)
        option.nbval_kernel_startup_timeout = max(option.nbval_kernel_startup_timeout, 120)


def reach_kernels_over_sockets():
    import nbval.kernel

    nbval.kernel.KernelManager = type('OwnKernel', (OwnSockets, nbval.kernel.KernelManager), {})


def pytest_sessionstart(session):
    if is_controller(session.config):
        WATCH.begin(notebook_files())
    # Generated here, once, its progress bar is in no notebook's output.
    if session.config.option.nbval and 'PYTEST_XDIST_WORKER' not in os.environ:
        from multilabel_nb.sources import bears, biwi_head_pose, pascal_2007, planet_sample

        with ProcessPoolExecutor(2) as pool:
            for made in [pool.submit(source) for source in (planet_sample, pascal_2007, biwi_head_pose, bears)]:
                made.result()


def is_controller(config):
    "Whether this process sees the whole run, and cells are tested in it."
    return config.option.nbval and 'PYTEST_XDIST_WORKER' not in os.environ


def pytest_runtest_logreport(report):
    WATCH.note(ROOT / report.nodeid.partition('::')[0], report.when, report.outcome, report.duration)


def pytest_sessionfinish(session):
    if is_controller(session.config):
        try:
            verified.save(WATCH.entries())
        except OSError as e:  # a checkout that cannot be written to
            print(f'\nno stamps are kept for the site: {e}')


def part(items):
    "Of each test that is marked `many(n)`, about n cases, spread evenly, the first among them; all others."
    cases, few = defaultdict(list), set(items)
    for item in items:
        if marker := item.get_closest_marker('many'):
            cases[item.nodeid.partition('[')[0], marker.args[0]].append(item)
    for (_, n), alike in cases.items():
        few -= set(alike) - set(alike[:: max(1, len(alike) // n)])
    return [item for item in items if item in few]


def pytest_collection_modifyitems(config, items):
    if config.option.part:
        few = part(items)
        config.hook.pytest_deselected(items=[item for item in items if item not in few])
        items[:] = few
    skip = pytest.mark.skip(reason='slow: run with --slow')
    for number, item in enumerate(items, 1):
        if hasattr(item, 'cell'):
            # nbdev empties execution counts, and nbval takes a cell without one for a cell that was never run.
            item.cell.execution_count = number
            item.parent.skip_compare = {*item.parent.skip_compare, 'image/svg+xml'}  # as it skips PNG and JPEG
        elif item.get_closest_marker('slow') and not config.option.slow:
            item.add_marker(skip)


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.getreports('passed') + terminalreporter.getreports('failed'):
        for title, table in report.user_properties:  # what a test counted
            if report.when == 'call':
                terminalreporter.section(title)
                terminalreporter.line(table)
