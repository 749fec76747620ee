"""A real browser, for whatever only a browser shows."""

import os
import shutil

import pytest
from bundled import bundle, good, model, predictors  # noqa: F401  fixtures of several tests
from hosted import address, served, site  # noqa: F401  likewise

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)


@pytest.fixture(scope='module')
def chromium():
    "One browser for all tests; without one they are skipped, and under CI_RUN=1 they fail."
    if CHROMIUM is None:
        (pytest.fail if os.environ.get('CI_RUN') == '1' else pytest.skip)('no chromium, chromium-browser or google-chrome on the PATH')
    from playwright.sync_api import sync_playwright

    flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking']
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def new_page(chromium):
    "Opens pages that note what goes wrong in them and what they ask for; closed after the test."
    opened = []

    def new(**options):
        context = chromium.new_context(**{'viewport': {'width': 1000, 'height': 900}, **options})
        opened.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.errors, page.requests = [], []
        page.on('console', lambda message: page.errors.append(message.text) if message.type in ('error', 'warning') else None)
        page.on('pageerror', lambda error: page.errors.append(str(error)))
        page.on('request', lambda request: page.requests.append(request.url))
        return page

    yield new
    for context in opened:
        context.close()


@pytest.fixture
def page(new_page):
    "A page that notes each answer it gets, too."
    page = new_page(viewport={'width': 1280, 'height': 900}, color_scheme='light')
    page.set_default_timeout(60_000)
    page.answers = []
    page.on('requestfailed', lambda request: page.errors.append(f'failed: {request.url}'))
    page.on('response', lambda response: page.answers.append((response.status, response.url)))
    return page
