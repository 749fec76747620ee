"""The search: everyday words find the page that helps, the guide before lessons before the reference; its box is always in sight."""

import re

import pytest
from hosted import ROOT, assert_sound, build_site, visit
from searches import SEARCHES

FOUND = """queries => queries.map(query => {
  const found = Search._performSearch(...Search._parseQuery(query));
  return found.reverse().map(([page, title, anchor]) => page + anchor);
})"""


def found(page, address, queries):
    "For each query what the search finds, the best first: pages with their anchors."
    visit(page, f'{address}search.html')
    page.wait_for_function('Search.hasIndex()')
    return dict(zip(queries, page.evaluate(FOUND, list(queries)), strict=True))


@pytest.mark.slow
def test_everyday_words_find_the_page_that_helps(address, page, record_property):
    """Among the first three, for 57 of 60 phrases (as many in a hundred) at least."""
    results = found(page, address, SEARCHES)
    place = {
        words: [p.partition('#')[0] for p in pages].index(SEARCHES[words]) + 1 if SEARCHES[words] in str(pages) else 0
        for words, pages in results.items()
    }
    missed = {words: (SEARCHES[words], results[words][:3]) for words, at in place.items() if not 1 <= at <= 3}
    record_property(
        'searches', f'{len(SEARCHES)} phrases, {len(SEARCHES) - len(missed)} among the first three, {[*place.values()].count(1)} first'
    )
    assert len(SEARCHES) >= 60 and len(missed) <= len(SEARCHES) * 3 / 60, missed


def kinds(pages):
    "Which part of the site each result belongs to."
    parts = {r'guide/': 'guide', r'\d\d_': 'lesson', r'api/': 'reference', r'library/': 'library'}
    return [next((part for begins, part in parts.items() if re.match(begins, name)), 'other') for name in pages]


@pytest.mark.slow
def test_the_guide_comes_before_lessons_before_the_reference(address, page):
    """Of pages that only have the word somewhere; each page once."""
    for words in ('bundle', 'groups', 'sklearn'):
        pages = [name for name in found(page, address, [words])[words] if '#' not in name]
        parts = kinds(pages)
        order = ['guide', 'lesson', 'other', 'reference', 'library']
        texts = parts[3:]  # the first may be asked for by another name
        assert len(pages) > 5 and texts == sorted(texts, key=order.index), list(zip(pages, parts, strict=True))
        assert len(pages) == len(set(pages))


NAMES = {
    'bce_with_logits': 'api/losses#multilabel_nb.losses.bce_with_logits',
    'MultiLabelBCE': 'api/losses#multilabel_nb.losses.MultiLabelBCE',
    'tune_thresholds()': 'api/choosing#multilabel_nb.choosing.tune_thresholds',
    'Where the formula breaks': '04_losses#where-the-formula-breaks',
    'ULMFiT': '06_training',
}


@pytest.mark.slow
def test_names_headings_and_words_of_prose_are_found_first(address, page):
    assert {words: pages[:1] for words, pages in found(page, address, NAMES).items()} == {words: [best] for words, best in NAMES.items()}


@pytest.mark.slow
def test_results_are_shown_in_this_order_and_begin_with_the_pages_own_words(address, page):
    """Typed into the box, on any page."""
    queries = ['threshold', 'ULMFiT']
    expected = found(page, address, queries)
    for words in queries:
        visit(page, f'{address}04_losses.html')
        page.keyboard.press('Control+k')
        page.keyboard.type(words)
        page.keyboard.press('Enter')
        page.wait_for_function("document.querySelector('#search-results')?.innerText.includes('finished')")
        page.wait_for_load_state('networkidle')
        urls = page.locator('#search-results li a').evaluate_all('all => all.map(a => a.getAttribute("href"))')
        assert [url.replace('.html', '') for url in urls] == expected[words]
        said = page.locator('#search-results li p.context').all_inner_texts()
        assert said and all(re.match(r'[^\s.…,;]', text) for text in said), said
        assert not [text for text in said if re.match('JupyterLab|not verified|last verified|Contents|Skip', text)]
    assert any('ulmfit' in text.lower() for text in said)
    assert_sound(page, address)


@pytest.mark.slow
@pytest.mark.parametrize('width', [1280, 1000, 768, 390])
def test_the_search_box_stays_in_sight(address, page, width):
    """At the top and far down, on a lesson, a guide page and the reference; also where the side is folded."""
    page.set_viewport_size({'width': width, 'height': 800})
    boxes = "[...document.querySelectorAll('.search-button__button')].map(x => x.getBoundingClientRect())"
    seen = f'() => {boxes}.some(r => r.width > 20 && r.top >= 0 && r.bottom <= innerHeight && r.left >= 0 && r.right <= innerWidth)'
    for name in ('04_losses', 'guide/glossary', 'api/thresholds', 'index'):
        visit(page, f'{address}{name}.html')
        for down in (0, 1500):
            page.evaluate(f'window.scrollTo(0, {down})')
            page.wait_for_timeout(300)
            assert page.evaluate(seen), (name, down)
    page.locator('.primary-toggle').first.click()  # folds the side, or opens it on a phone
    page.wait_for_timeout(500)
    assert page.evaluate(seen) or width < 992
    page.evaluate("document.querySelector('.bd-sidebar-primary').scrollTo(0, 900)")
    page.wait_for_timeout(300)
    assert page.evaluate(seen)


@pytest.mark.slow
@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_the_cheat_sheet_prints_on_one_page(address, page, scheme):
    """On A4, with the title, dark on white."""
    page.emulate_media(color_scheme=scheme)
    visit(page, f'{address}guide/cheat-sheet.html')
    assert len(re.findall(rb'/Type\s*/Page\b', page.pdf(format='A4'))) == 1
    page.emulate_media(media='print', color_scheme=scheme)
    colours = page.evaluate("['#jb-print-docs-body h1', '.bd-article p'].map(x => getComputedStyle(document.querySelector(x)).color)")
    assert all(max(map(int, re.findall(r'\d+', colour)[:3])) < 100 for colour in colours)
    assert page.locator('#jb-print-docs-body h1').is_visible() and not page.locator('#jb-print-toc').is_visible()


def test_synonyms_are_of_pages_and_the_phrases_are_no_list_of_their_own(tmp_path):
    """A page that is not there stops the build; the synonyms say more than the test asks for."""
    (tmp_path / 'search.js').write_text('')
    (tmp_path / 'synonyms.toml').write_text('"guide/nowhere" = ["x"]')
    with pytest.raises(SystemExit, match="there is no page 'guide/nowhere'"):
        build_site.add_synonyms(tmp_path)
    import tomllib

    given = tomllib.loads((ROOT / 'docs' / 'synonyms.toml').read_text(encoding='utf-8'))
    assert sum(map(len, given.values())) > 3 * len(SEARCHES)
