"""The live classifier: its folder is built whole and once, and in a browser the page says what Python says, and sends nothing."""

import base64
import functools
import io
import json
import re
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_browser import contrast, luminance

from multilabel_nb.inference import decide
from multilabel_nb.predictor import Predictor
from multilabel_nb.standins.planet import planet_tags, planet_tile

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'tools'))

import live  # noqa: E402
import looks  # noqa: E402
import npm  # noqa: E402

slow = pytest.mark.slow
SEED = 11
TILES = planet_tags(24, SEED)


# ---- building


def fake_model(src, dest, rows, size):
    "What `train` leaves, without training."
    (dest / 'model').mkdir(parents=True)
    files = {name: {'bytes': 1} for name in ('model.onnx', 'model.safetensors')}
    (dest / 'model' / 'config.json').write_text(json.dumps({'files': files}))
    (dest / 'about.json').write_text('{"data": "made up"}')
    return dest


@pytest.fixture
def quick(monkeypatch, tmp_path):
    "`build` without training and without npm: a function of the folder to write, and how often it trained."
    trainings = []
    monkeypatch.setattr(live, 'train', lambda *args: (trainings.append(args), fake_model(*args))[1])
    monkeypatch.setattr(live, 'members', lambda package, names: {name: b'12345' for name in names})
    return functools.partial(live.build, cache=tmp_path / 'cache'), trainings


def test_the_model_is_trained_once(quick, tmp_path, monkeypatch):
    """And again when something that it depends on has changed."""
    build, trainings = quick
    build(tmp_path / 'live')
    (tmp_path / 'live' / 'left over').touch()
    build(tmp_path / 'live')
    assert len(trainings) == 1 and not (tmp_path / 'live' / 'left over').exists()
    about = json.loads((tmp_path / 'live' / 'about.json').read_text())
    assert about == {'data': 'made up', 'runtime': 'onnxruntime-web 1.30.0', 'bytes': 11}
    assert {file.name for file in live.ASSETS.iterdir()} <= {file.name for file in (tmp_path / 'live').iterdir()}
    build(tmp_path / 'live', size=96)
    monkeypatch.setattr(live, 'ROOT', tmp_path)  # another library
    (tmp_path / 'requirements.lock').write_text('torch==1')
    build(tmp_path / 'live')
    assert len(trainings) == 3


def test_a_build_that_fails_leaves_what_was_there(quick, tmp_path, monkeypatch):
    build, _ = quick
    build(tmp_path / 'live')
    before = sorted(file.name for file in tmp_path.iterdir())
    (tmp_path / 'live' / 'mark').touch()
    monkeypatch.setattr(live, 'ASSETS', tmp_path / 'nowhere')
    with pytest.raises(FileNotFoundError, match='nowhere'):
        build(tmp_path / 'live')
    assert (tmp_path / 'live' / 'mark').exists() and sorted(file.name for file in tmp_path.iterdir()) == before


def test_real_data_is_refused(quick, tmp_path, monkeypatch):
    build, trainings = quick
    (tmp_path / 'planet_sample' / 'train').mkdir(parents=True)
    (tmp_path / 'planet_sample' / 'train' / 'one.jpg').touch()
    (tmp_path / 'planet_sample' / 'labels.csv').touch()
    monkeypatch.setenv('MULTILABEL_NB_DATA', str(tmp_path))
    with pytest.raises(ValueError, match='planet_sample: not the stand-in'):
        build(tmp_path / 'live')
    assert not trainings and not (tmp_path / 'live').exists()


def test_examples_show_many_labels_between_them():
    targs = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]])
    assert live.varied(targs, 3) == [0, 2, 3]
    assert sorted(live.varied(targs, 9)) == [0, 1, 2, 3, 4]


def test_a_package_that_is_not_the_pinned_one_is_refused(tmp_path, monkeypatch):
    """Neither what comes from the registry nor what lies in the cache is believed."""
    monkeypatch.setattr(npm, 'pack', lambda package, folder: b'something else')
    package = npm.Package('left-pad', '1.0.0', npm.integrity_of(b'the real one'))
    with pytest.raises(RuntimeError, match='left-pad 1.0.0 is not what was pinned'):
        npm.archive(package, tmp_path)
    file = tmp_path / 'left-pad-1.0.0.tgz'
    file.write_bytes(b'spoiled')
    monkeypatch.setattr(npm, 'pack', lambda package, folder: b'the real one')
    assert npm.archive(package, tmp_path).read_bytes() == b'the real one'
    assert [file] == list(tmp_path.iterdir())


def test_npm_that_fails_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv('npm_config_offline', 'true')
    monkeypatch.setenv('npm_config_cache', str(tmp_path / 'empty'))
    with pytest.raises(RuntimeError, match='(?s)npm could not fetch left-pad 1.3.0: .*ENOTCACHED'):
        npm.archive(npm.Package('left-pad', '1.3.0', 'sha512-'), tmp_path / 'cache')


# ---- in a browser


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "The page in a bare frame, with a quick model, served on this machine: its address and its folder."
    folder = tmp_path_factory.mktemp('site')
    live.build(folder / 'live', rows=160, size=96)
    fragment = re.search(r'```\{raw\} html\n(.*?)```', (ROOT / 'docs' / 'live.md').read_text(encoding='utf-8'), re.S)[1]
    head = '<meta charset="utf-8"><meta name="color-scheme" content="light dark"><meta name="viewport" content="width=device-width">'
    head += '<link rel="icon" href="data:,"><title>live</title>'
    page = f'<!doctype html><html lang="en"><head>{head}</head><body>{fragment}</body></html>'
    (folder / 'live.html').write_text(page, encoding='utf-8')
    with ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f'http://127.0.0.1:{server.server_port}', folder
        server.shutdown()
        thread.join()


@pytest.fixture(scope='module')
def predictor(site):
    return Predictor(site[1] / 'live' / 'model', 'onnx')


@pytest.fixture
def open_page(site, new_page):
    "Opens the page, ready for a picture. When the test ends: nothing was sent, and nothing asked of any other host."
    opened = []

    def open_(**options):
        page = new_page(**options)
        page.sent = []
        page.on('request', lambda request: page.sent.append((request.method, request.post_data)))
        page.goto(f'{site[0]}/live.html')
        page.wait_for_selector('.choose:not([hidden])')
        opened.append(page)
        return page

    yield open_
    for page in opened:
        assert_nothing_left(page, site[0])


def assert_nothing_left(page, address):
    assert len(page.requests) >= 5
    assert [url for url in page.requests if not url.startswith((f'{address}/live', f'blob:{address}/', 'data:'))] == []
    assert set(page.sent) == {('GET', None)}


def png(img, **options):
    img.save(buffer := io.BytesIO(), 'png', **options)
    return buffer.getvalue()


def tile(i):
    return Image.fromarray(planet_tile(TILES[i][1], [SEED, i]))


def choose(page, name, data, kind='image/png'):
    "Pick a file as a visitor does; come back when the page has answered."
    page.locator('input[type=file]').set_input_files({'name': name, 'mimeType': kind, 'buffer': data})
    answered(page, name)


def answered(page, name):
    page.wait_for_function(
        """name => document.querySelector('.status').textContent.startsWith(`${name} was labelled`)
          || document.querySelector('.error').textContent.includes(name)""",
        arg=name,
    )


def text(page, what):
    return page.locator(what).inner_text()


def shown(page):
    "Probability and threshold by label, and the set of labels that are marked as on."
    rows = page.locator('.labels li').evaluate_all(
        """all => all.map(li => [li.querySelector('.name').textContent, Number(li.querySelector('data').value),
          Number(li.querySelector('input').value), li.querySelector('.sign').textContent])"""
    )
    marked = {name for name, *_, mark in rows if mark in ('●', '✓', '✗')}
    return {name: prob for name, prob, *_ in rows}, {name: thresh for name, _, thresh, _ in rows}, marked


def labels_said(page):
    said = text(page, '.answer').rpartition(': ')[2]
    return set() if said == 'no label' else set(said.split(', '))


@slow
def test_probabilities_are_those_of_python(open_page, predictor):
    """On twenty tiles, some of another size, and on every kind of file that the library opens and browsers open too."""
    sizes = [(256, 256), (256, 256), (300, 200), (61, 90), (500, 700)]
    files = {f'tile{i}.png': png(tile(i).resize(sizes[i % len(sizes)])) for i in range(20)} | other_kinds(tile(20))
    page, worst = open_page(), {}
    for name, data in files.items():
        choose(page, name, data, f'image/{name[-3:]}')
        assert text(page, '.error') == ''
        expected, (probs, _, on) = predictor.predict(data), shown(page)
        worst[name] = max(abs(probs[label] - prob) for label, prob in expected.probs.items())
        assert on == set(expected.labels), name
        assert 'not sure' in text(page, '.answer') or labels_said(page) == on, name
        assert list(probs.values()) == sorted(probs.values(), reverse=True)
    print(f'largest difference of a probability: {max(worst.values()):.1e}')
    assert max(worst.values()) < 0.001, worst  # the project promises 0.02
    assert page.errors == []


def other_kinds(img):
    "One picture, stored in many ways."
    see_through = img.copy()
    see_through.putalpha(Image.linear_gradient('L'))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned upright
    grey = np.asarray(img.convert('L'))
    files = {
        'alpha.png': png(see_through),
        'grey.png': png(Image.fromarray(grey)),
        'deep.png': png(Image.fromarray(grey.astype(np.uint16) * 257)),
        'palette.png': png(img.quantize(64)),
        'dot.png': png(Image.new('RGB', (1, 1), 'green')),
    }
    stored = {'rgb.jpg': img, 'cmyk.jpg': img.convert('CMYK'), 'any.gif': img, 'any.bmp': img}
    for name, picture in {**stored, 'turned.jpg': img.resize((256, 180))}.items():
        kind = {'jpg': 'jpeg'}.get(name[-3:], name[-3:])
        picture.save(buffer := io.BytesIO(), kind, **({'exif': exif} if name == 'turned.jpg' else {}))
        files[name] = buffer.getvalue()
    return files


def by_python(site, data):
    "Distance of a file's picture from the nearest training tile, and the most that counts as alike."
    rule = json.loads((site[1] / 'live' / 'looks.json').read_text())
    (square,) = looks.squares([Image.open(io.BytesIO(data))], 96)
    return looks.distance(square, rule), rule['limit']


@slow
def test_other_pictures_get_no_sure_answer(open_page, site):
    """Noise, blanks and a photograph; the distance that is said is that of Python. The next tile is answered as before."""
    rng = np.random.default_rng(0)
    others = {
        'noise.png': png(Image.fromarray(rng.integers(0, 256, (200, 300, 3), dtype=np.uint8))),
        'white.png': png(Image.new('RGB', (64, 64), 'white')),
        'green.png': png(Image.new('RGB', (256, 256), (48, 60, 46))),
        'photo.png': png(next(looks.photos())),
    }
    page = open_page()
    for name, data in others.items():
        choose(page, name, data)
        far, limit = by_python(site, data)
        assert text(page, '.answer') == f'{name}: not sure: the picture is unlike the tiles that the model was trained on'
        assert f'is {far:.2f}; the limit is {limit:.2f}.' in text(page, '.why') and far > limit
    sure = 0
    for i in range(6):
        choose(page, f'{i}.png', png(tile(i)))
        far, limit = by_python(site, png(tile(i)))
        unsure = 'not sure' in text(page, '.answer')
        assert (far > limit) == unsure == page.locator('.why').is_visible() == page.locator('.result.unsure').is_visible()
        sure += not unsure
    assert sure >= 4 and page.errors == []


@slow
def test_an_answer_without_a_label_is_not_sure(open_page):
    """Though one weather must be on, if no label reaches the model's own threshold; a slider changes nothing about it."""
    page = open_page()
    ask = """async probs => {
      const { doubt } = await import('/live/network.js');
      const known = { bundle: { thresholds: [.5, .3] }, looks: { limit: 2 } };
      return [doubt({ probs, far: 1 }, known), doubt({ probs, far: 2.1 }, known)];
    }"""
    unlike = 'not sure: the picture is unlike the tiles that the model was trained on'
    assert page.evaluate(ask, [0.5, 0.2]) == ['not sure: no label reaches its threshold', unlike]
    assert page.evaluate(ask, [0.5, 0.31]) == ['', unlike]
    choose(page, 'tile.png', png(tile(0)))


RESIZE = """async ([data, width, height, size]) => {
  const { resize } = await import('/live/pixels.js');
  const all = Uint8Array.from(atob(data), c => c.charCodeAt(0));
  const cut = (left, top, w, h) => {
    const part = [];
    for (let y = top; y < top + h; y++) for (let i = (y * width + left) * 4; i < (y * width + left + w) * 4; i++) part.push(all[i]);
    return part;
  };
  return Array.from(resize(width, height, cut, size));
}"""


@slow
def test_pictures_are_resized_to_the_byte_as_pillow_does(open_page):
    page, rng = open_page(), np.random.default_rng(0)
    for width, height, size in [
        (256, 256, 96),
        (180, 256, 128),
        (300, 200, 64),
        (1, 1, 5),
        (7, 3, 32),
        (64, 64, 64),
        (130, 400, 64),
        (400, 130, 64),
    ]:
        pixels = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
        expected = np.asarray(Image.fromarray(pixels[..., :3]).resize((size, size), Image.Resampling.BILINEAR))
        found = page.evaluate(RESIZE, [base64.b64encode(pixels.tobytes()).decode(), width, height, size])
        assert np.array_equal(np.reshape(found, expected.shape), expected), (width, height, size)
    choose(page, 'tile.png', png(tile(0)))


@slow
def test_labels_are_decided_as_python_does(open_page):
    """Also where probability and threshold are the same number: such a label is off; and where two of a group tie: the first is on."""
    page, rng = open_page(), np.random.default_rng(0)
    vocab, exclusive = list('abcdef'), [['d', 'b', 'e']]
    probs, thresholds = (rng.integers(0, 11, (200, 6)).astype(np.float32) / np.float32(10)), (rng.integers(0, 11, 6) / 10).tolist()
    ask = "async args => (await import('/live/pixels.js')).decide(...args)"
    for row in probs:
        for groups in ([], exclusive):
            found = page.evaluate(ask, [row.tolist(), thresholds, vocab, groups])
            assert [name for name, on in zip(vocab, found, strict=True) if on] == decide(row[None], vocab, thresholds, groups)[0]
    choose(page, 'tile.png', png(tile(0)))


def press(page, key, times=1):
    for _ in range(times):
        page.keyboard.press(key)


def focused(page):
    return page.evaluate('document.activeElement.getAttribute("aria-label") ?? document.activeElement.className ?? ""')


@slow
def test_by_keyboard_alone(open_page, predictor):
    """Tab reaches everything; the labels follow each slider as `decide` says, strictly above, and one weather to a picture."""
    page = open_page()
    press(page, 'Tab')
    assert page.evaluate('document.activeElement.type') == 'file'
    press(page, 'Tab')
    press(page, 'Enter')
    answered(page, 'tile 1')
    press(page, 'Tab', 6)
    assert page.evaluate('document.activeElement.closest("label").innerText').startswith('threshold for all labels')
    for key, thresh in (('End', 1.0), ('Home', 0.0), ('ArrowRight', 0.01), ('PageUp', None)):
        press(page, key)
        probs, thresholds, on = shown(page)
        assert len(set(thresholds.values())) == 1 and (thresh is None or set(thresholds.values()) == {thresh})
        assert on == labels_said(page) == decoded(page, predictor.thresholds.exclusive)
        assert text(page, '.shared output') == f'{next(iter(thresholds.values())):.2f}'
    before = shown(page)[1]
    press(page, 'Tab')
    press(page, ' ')  # no longer one weather
    assert shown(page)[2] == labels_said(page) == decoded(page, [])
    press(page, 'Tab', 2)
    label = re.fullmatch('threshold for (.+)', focused(page))[1]
    press(page, 'Home')
    press(page, 'ArrowRight', 3)
    assert shown(page)[1] == {**before, label: 0.03} and text(page, '.shared output') == 'several'
    assert page.evaluate('document.activeElement.getAttribute("aria-valuetext")') == '0.03, on'
    assert shown(page)[2] == labels_said(page) == decoded(page, [])
    press(page, 'Shift+Tab')
    press(page, 'Enter')
    assert set(shown(page)[1].values()) == {0.5} and page.locator('.one').is_checked()
    assert shown(page)[2] == decoded(page, predictor.thresholds.exclusive)
    assert page.errors == []


def decoded(page, exclusive):
    "What Python makes of the probabilities and thresholds on the page."
    probs, thresholds, _ = shown(page)
    names = sorted(probs)
    found = np.array([[probs[name] for name in names]], np.float32)
    return set(decide(found, names, [thresholds[name] for name in names], exclusive)[0])


@slow
def test_by_mouse(open_page, predictor, site):
    """An example is marked with what it was drawn with; a slider is dragged; a file is dropped."""
    page = open_page()
    example = json.loads((site[1] / 'live' / 'about.json').read_text())['examples'][1]
    page.locator('.examples button').nth(1).click()
    answered(page, 'tile 2')
    data = (site[1] / 'live' / example['file']).read_bytes()
    on, truth = set(predictor.predict(data).labels), set(example['labels'])
    states = page.locator('.labels li').evaluate_all('all => all.map(li => [li.querySelector(".name").textContent, li.className])')
    expected = {
        name: 'hit' if name in on & truth else 'false-alarm' if name in on else 'miss' if name in truth else '' for name in predictor.vocab
    }
    assert dict(states) == expected

    slider = page.locator('.labels li:not(:has(input:disabled)) input').first
    box = slider.bounding_box()
    at = lambda share: (box['x'] + 12 + share * (box['width'] - 24), box['y'] + box['height'] / 2)  # noqa: E731
    page.mouse.move(*at(0.5))
    page.mouse.down()
    page.mouse.move(*at(0.8), steps=4)
    page.mouse.up()
    assert abs(float(slider.input_value()) - 0.8) < 0.02 and shown(page)[2] == decoded(page, predictor.thresholds.exclusive)

    drop(page, 'mine.png', png(tile(3)))
    answered(page, 'mine.png')
    assert set(shown(page)[0].values()) != set() and text(page, '.truth') == ''
    assert labels_said(page) == decoded(page, predictor.thresholds.exclusive)
    assert page.errors == []


def drop(page, name, data, padding=0):
    "Drop a file on the page, zeros behind its data, or, without a name, something that is none."
    page.evaluate(
        """([name, data, padding]) => {
          const transfer = new DataTransfer();
          const parts = [Uint8Array.from(atob(data), c => c.charCodeAt(0)), new Uint8Array(padding)];
          if (name) transfer.items.add(new File(parts, name));
          else transfer.setData('text/plain', 'words');
          for (const type of ['dragover', 'drop'])
            document.querySelector('.drop').dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: transfer }));
        }""",
        [name, base64.b64encode(data).decode(), padding],
    )


@slow
def test_errors_name_the_file_and_leave_the_answer_alone(open_page):
    page = open_page()
    choose(page, 'tile.png', png(tile(0)))
    answer, before = text(page, '.answer'), shown(page)
    bad = {
        'notes.txt': (b'no picture', 'is not an image'),
        'empty.png': (b'', 'is not an image'),
        'cut.png': (png(tile(1))[:3000], 'is not an image'),
        'wide.png': (png(Image.new('1', (16385, 1))), 'is too large: 16,385 × 1 pixels'),
    }
    for name, (data, said) in bad.items():
        choose(page, name, data)
        assert text(page, '.error').startswith(f'{name} {said}'), name
        assert text(page, '.status') == 'Still showing tile.png.'
        assert (text(page, '.answer'), shown(page)) == (answer, before)
    drop(page, 'heavy.png', b'', padding=50_000_001)
    answered(page, 'heavy.png')
    assert text(page, '.error').startswith('heavy.png is too large: 51 MB') and text(page, '.answer') == answer
    drop(page, '', b'')
    assert 'no file' in text(page, '.error') and text(page, '.answer') == answer
    choose(page, 'other.png', png(tile(1)))
    assert text(page, '.error') == '' and text(page, '.answer').startswith('other.png: ')


@slow
def test_a_browser_without_webassembly_is_told_so(new_page, site):
    page = new_page()
    page.add_init_script('delete globalThis.WebAssembly')
    page.goto(f'{site[0]}/live.html')
    page.wait_for_function('document.querySelector(".error").textContent')
    assert 'no WebAssembly' in text(page, '.error') and page.locator('.choose').is_hidden()


@slow
def test_without_scripts_the_page_says_what_is_missing(new_page, site):
    page = new_page(java_script_enabled=False)
    page.goto(f'{site[0]}/live.html')
    assert 'needs scripts' in text(page, '.status') and page.locator('.choose').is_hidden()


@slow
def test_a_model_that_does_not_arrive_is_named_and_asked_for_again(new_page, site):
    name, page = 'model.onnx', new_page()
    answers = [{'status': 503}, {'status': 200, 'body': b'spoiled'}]
    page.route(f'**/{name}', lambda route: route.fulfill(**answers.pop(0)) if answers else route.continue_())
    page.goto(f'{site[0]}/live.html')
    page.wait_for_selector('.choose:not([hidden])')
    for said in ('could not be fetched (503)', 'is damaged'):
        page.locator('.examples button').first.click()
        page.wait_for_function('said => document.querySelector(".error").textContent.includes(said)', arg=said)
        assert name in text(page, '.error') and page.locator('.result').is_hidden()
    page.locator('.examples button').first.click()
    answered(page, 'tile 1')
    assert text(page, '.error') == ''


@slow
def test_the_last_choice_counts(open_page):
    """Also when an earlier one takes longer, because its file is slow to come."""
    page = open_page()
    waiting = []

    def hold_the_first(route):
        hold = not waiting and route.request.resource_type == 'fetch'
        waiting.append(route) if hold else route.continue_()

    page.route('**/examples/*.png', hold_the_first)
    page.evaluate('document.querySelectorAll(".examples button")[0].click()')
    page.wait_for_timeout(100)
    page.evaluate('document.querySelectorAll(".examples button")[1].click()')
    answered(page, 'tile 2')
    waiting[0].continue_()
    page.wait_for_timeout(500)
    assert text(page, '.answer').startswith('tile 2: ') and text(page, '.status').startswith('tile 2 was labelled')


@slow
def test_progress_is_shown_while_the_model_comes(new_page, site):
    """A share of it, that grows; then it goes away."""
    page = new_page()
    page.add_init_script("""globalThis.shares = [];
      new MutationObserver(() => {
        const bar = document.querySelector('progress:not([hidden])');
        if (bar) shares.push(bar.hasAttribute('value') ? bar.value : -1);
      }).observe(document, { subtree: true, childList: true, attributes: true });""")
    page.goto(f'{site[0]}/live.html')
    page.wait_for_selector('.choose:not([hidden])')
    assert page.locator('progress').is_hidden()
    page.locator('.examples button').first.click()
    answered(page, 'tile 1')
    shares = page.evaluate('shares')
    known = [share for share in shares if share >= 0]
    assert len(set(known)) > 5 and known == sorted(known) and known[-1] == 1 and shares[-1] == -1
    assert page.locator('progress').is_hidden() and page.errors == []


@slow
@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_it_can_be_read(open_page, scheme):
    page = open_page(color_scheme=scheme)
    page.locator('.examples button').first.click()
    answered(page, 'tile 1')
    choose(page, 'no.txt', b'')
    style = """all => all.map(x => {
      const layers = [];
      for (let at = x; at; at = at.parentElement) layers.push(getComputedStyle(at).backgroundColor);
      return [getComputedStyle(x).color, layers];
    })"""
    paper = "Object.assign(document.body.appendChild(document.createElement('p')), { style: 'background: Canvas' })"
    bare = page.evaluate(f'getComputedStyle({paper}).backgroundColor')
    assert (luminance(bare) < 0.2) == (scheme == 'dark')
    for colour, layers in page.locator('.live-classifier :is(p, label, button, .name, data, output, td, th)').evaluate_all(style):
        solid = next((layer for layer in layers if re.fullmatch(r'rgb\(.*\)', layer)), bare)
        assert contrast(colour, solid) >= 7  # the shade behind some takes a little of it
    assert page.errors == []


def in_sight(page, what):
    box = page.locator(what).bounding_box()
    return box['y'] >= 0 and box['y'] + box['height'] <= page.viewport_size['height']


@slow
def test_on_a_phone(new_page, site):
    """Nothing is wider than the screen, whatever a file is called, and sliders are as tall as a finger needs."""
    context = {'viewport': {'width': 390, 'height': 844}, 'device_scale_factor': 1}
    page = new_page()
    page.set_viewport_size(context['viewport'])
    page.goto(f'{site[0]}/live.html')
    page.wait_for_selector('.choose:not([hidden])')
    assert page.locator('.result').is_hidden()
    held = []
    page.route('**/*.wasm', lambda route: held.append(route))
    page.locator('.examples button').first.click()
    while not held:
        page.wait_for_timeout(50)
    assert in_sight(page, 'progress'), page.locator('progress').bounding_box()
    held[0].continue_()
    answered(page, 'tile 1')
    page.evaluate('scrollTo(0, 0)')
    choose(page, f'{"a" * 200}.png', png(tile(0)))
    page.wait_for_timeout(1000)  # it scrolls there
    assert in_sight(page, '.result .answer')
    choose(page, f'{"b" * 200}.txt', b'none')
    assert page.evaluate('document.documentElement.scrollWidth') <= 390
    heights = page.locator('.labels input:not(:disabled)').evaluate_all('all => all.map(x => x.getBoundingClientRect().height)')
    assert len(heights) > 3 and min(heights) >= 24


@slow
def test_the_page_says_what_the_model_is(open_page, site):
    """The stand-in alone, and its scores, beside three answers that never look: those of the bundle, not typed in."""
    page = open_page()
    bundle = json.loads((site[1] / 'live' / 'model' / 'config.json').read_text())
    assert set(bundle['scores']) == {'model', 'all-negative', 'all-positive', 'constant'}
    assert bundle['scores']['model']['f1'] > bundle['scores']['constant']['f1']
    cells = [row.split() for row in page.locator('.scores tbody tr').all_inner_texts()]
    names = ['f1', 'precision', 'recall', 'accuracy']
    assert cells == [[row, *(f'{scores[name]:.3f}' for name in names)] for row, scores in bundle['scores'].items()]
    accepted = json.loads((site[1] / 'live' / 'about.json').read_text())['accepted']
    lines = page.locator('.accepted tbody tr').evaluate_all('all => all.map(tr => [...tr.children].map(x => x.textContent))')
    assert lines == [[kind, f'{n}', f'{n - k}', f'{100 * (n - k) / n:.1f} %'] for kind, (k, n) in accepted.items()]
    assert 'stand-in alone' in text(page, '.live-classifier') and 'planet_sample (stand-in)' in text(page, '.data')
    assert 'Nothing is uploaded' in text(page, '.live-classifier')
    choose(page, 'tile.png', png(tile(0)))


@slow
def test_what_the_site_carries(site):
    """One variant of the runtime, one copy of the weights."""
    folder = site[1] / 'live'
    sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in folder.rglob('*') if file.is_file()}
    assert [name for name, size in sizes.items() if size > 1e6] != [] and sum(sizes.values()) < 30e6
    assert sum(name.endswith('.wasm') for name in sizes) == 1
    about = json.loads((folder / 'about.json').read_text())
    bundle = json.loads((folder / 'model' / 'config.json').read_text())
    assert set(bundle['files']) - {'model.onnx'} == {'model.safetensors'} and 'model/model.safetensors' not in sizes
    fetched = ['model/model.onnx', *(name for name in sizes if name.startswith('runtime/'))]
    assert about['bytes'] == sum(sizes[name] for name in fetched)
