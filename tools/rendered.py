"""What pages that Sphinx has written still lack: long lines of code that wrap, and a head that says what the page is.

The picture that a link to the site is shown with is drawn here, of tiles of the stand-in, and says so.
"""

import html
import re
from pathlib import Path

WRAPS = 32  # characters: a longer line of code may be wider than its box on a phone
BLOCK = re.compile(r'(<div class="highlight-(?!none|text|myst-ansi)[\w-]+ notranslate"><div class="highlight"><pre>)(.*?)(?=</pre>)', re.S)
TAG = re.compile(r'<[^>]+>')


def words(markup):
    "The text of some HTML."
    return html.unescape(TAG.sub('', markup))


def hanging(text):
    "Put long lines of code into elements of their own, so that the style can wrap them under their first word."

    def line(markup):
        said = words(markup)
        if len(said) <= WRAPS:
            return f'{markup}\n'
        indent = len(said) - len(said.lstrip())
        return f'<span class="ln"{f" style=--i:{indent}" if indent else ""}>{markup}\n</span>'

    return BLOCK.sub(lambda m: m[1] + ''.join(map(line, m[2].removesuffix('\n').split('\n'))), text)


# ---- the head

PREVIEW = '_static/preview-standin.jpg'
PREVIEW_SAYS = 'Four satellite tiles with their labels: drawn by a program, the stand-in for the Planet data set'
TILES = {
    ('clear', 'primary', 'water'): 4,
    ('clear', 'primary', 'road', 'habitation'): 2,
    ('partly_cloudy', 'primary', 'agriculture'): 1,
    ('haze', 'primary', 'agriculture', 'road'): 3,
}


def first_sentence(text, most=200):
    "What a page says first, below its title; nothing if it says nothing."
    article = re.sub(r'<div class="(?:ways-in|stamp|buttons) .*?</div>', '', text.partition('</h1>')[2], flags=re.S)
    said = next((' '.join(words(p).split()) for p in re.findall(r'<p(?: [^>]*)?>(.*?)</p>', article, re.S) if words(p).strip()), '')
    sentence = re.match(r'.*?[.!?](?= [A-Z]|$)|.*', said)[0]
    return sentence if len(sentence) <= most else f'{sentence[:most].rpartition(" ")[0]} …'


OF_ALL = 'index.html', 'search.html'  # pages that are about the whole site


def head(text, page, url, cfg):
    "A page with one viewport, a description, and what is shown where somebody links to it."
    title = html.unescape(re.search(r'<title>(.*?)</title>', text, re.S)[1]).replace(' — ', ' · ')
    told = {
        'og:title': title,
        'og:description': cfg['description'] if page in OF_ALL else first_sentence(text) or cfg['description'],
        'og:type': 'website' if page == 'index.html' else 'article',
        'og:site_name': cfg['title'],
        'og:url': url + ('' if page == 'index.html' else page),
        'og:image': url + PREVIEW,
        'og:image:alt': PREVIEW_SAYS,
    }
    said = [
        f'<meta name="description" content="{html.escape(told["og:description"])}">',
        '<meta name="twitter:card" content="summary_large_image">',
    ]
    said += [f'<meta property="{name}" content="{html.escape(value)}">' for name, value in told.items()]
    first, *others = re.findall(r'<meta name="viewport"[^>]*>', text)
    begins, rest = text.split(first, 1)
    for other in others:
        rest = rest.replace(other, '', 1)
    return f'{begins}{first}\n    ' + '\n    '.join(said) + rest


def add_heads(out, pages, url, cfg):
    "Give each page its head; draw the picture that all of them name."
    for page in pages:
        file = out / page
        text = file.read_text(encoding='utf-8') if file.exists() else ''
        if '<meta name="viewport"' in text:
            file.write_text(head(text, page, url, cfg), encoding='utf-8')
    preview(cfg['title'], cfg['description']).save(out / PREVIEW, quality=85, optimize=True)


def preview(title, description):
    "The picture that a link to the site is shown with."
    import textwrap

    from matplotlib import get_data_path
    from PIL import Image, ImageDraw, ImageFont

    from multilabel_nb.standins.planet import planet_tile

    fonts = Path(get_data_path()) / 'fonts' / 'ttf'
    font = lambda size, name='DejaVuSans': ImageFont.truetype(fonts / f'{name}.ttf', size)  # noqa: E731
    image = Image.new('RGB', (1200, 630), '#14181e')
    draw = ImageDraw.Draw(image)
    draw.text((48, 40), title, '#ffffff', font(56, 'DejaVuSans-Bold'))
    draw.multiline_text((48, 122), '\n'.join(textwrap.wrap(description, 62)), '#ced6dd', font(29), spacing=10)
    for i, (tags, seed) in enumerate(TILES.items()):
        left = 48 + i * 282
        image.paste(Image.fromarray(planet_tile(list(tags), seed)), (left, 222))
        draw.multiline_text((left, 488), '\n'.join(t.replace('_', ' ') for t in tags), '#ffffff', font(21), spacing=3)
    draw.text((1152, 614), 'Drawn by a program: stand-in data, not photographs', '#9aa4ae', font(17), anchor='rs')
    return image
