"""Pictures as vectors: how `make notebooks` stores them, and how the site shows them in light and in dark.

A figure of matplotlib is stored as SVG, with a small raster picture beside it for whoever shows no SVG (JupyterLab shows none in a
notebook that it does not trust yet). Photographs inside are JPEGs, with two pixels to each of the screen. The site's copy names its
colours, and the dark page asks for `picture.svg#dark`: lines and words have other colours there, photographs and heat maps the same.
"""

import base64
import colorsys
import io
import re
from xml.etree import ElementTree

from PIL import Image

SVG, PNG, JPEG = 'image/svg+xml', 'image/png', 'image/jpeg'
SCREEN = 96  # pixels of a page to the inch
# What the kernels that `make notebooks` starts are told.
KERNEL_CONFIG = f"""\
c.InlineBackend.figure_formats = {{'svg', 'png'}}
c.InlineBackend.print_figure_kwargs = {{'bbox_inches': 'tight', 'dpi': {2 * SCREEN}, 'metadata': {{'Date': None}}}}
"""
QUALITY = 85  # of JPEGs


def write_profile(folder):
    "What `IPYTHONDIR` names, so that kernels draw each figure as SVG and as PNG."
    profile = folder / 'profile_default'
    profile.mkdir(parents=True)
    (profile / 'ipython_kernel_config.py').write_text(KERNEL_CONFIG)
    return folder


# ---- storing


def opened(data):
    return Image.open(io.BytesIO(base64.b64decode(data)))


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return base64.b64encode(out.getvalue()).decode()


def as_jpeg(image):
    return encoded(image.convert('RGB'), 'JPEG', quality=QUALITY, subsampling=0)


def embedded(match):
    "A picture inside an SVG: a heat map keeps each of its few colours; a photograph becomes a JPEG, if nothing in it is transparent."
    image = opened(match[1])
    opaque = image.mode != 'RGBA' or image.getchannel('A').getextrema()[0] == 255
    if opaque and not image.convert('RGB').getcolors(256):
        return f'data:image/jpeg;base64,{as_jpeg(image)}'
    exact = image.convert('RGB').convert('P', palette=Image.Palette.ADAPTIVE) if opaque else image
    return f'data:image/png;base64,{encoded(exact, "PNG", optimize=True)}'


def rounded(match):
    "Coordinates to a hundredth of a point."
    return re.sub(r'-?\d+\.\d+', lambda m: f'{round(float(m[0]), 2) + 0:g}' if abs(float(m[0])) < 1e4 else m[0], match[0])


def slim(svg):
    "An SVG of matplotlib without what nobody sees: comments, who made it, line ends, digits below a hundredth."
    svg = re.sub(r'<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>', '', svg, flags=re.S)
    svg = re.sub(r'data:image/png;base64,([^"]+)', embedded, svg)
    svg = re.sub(r' (d|points|x|y)="[^"]*"|translate\([^)]*\)', rounded, svg)
    return re.sub(r'\s+', ' ', re.sub(r'>\s+<', '><', svg)).replace(' "', '"').strip()


def tidy(output):
    "Make the pictures of one output small: the SVG slim, the raster picture beside it one pixel to each of the screen."
    data = output.get('data', {})
    if SVG in data and PNG in data:
        data[SVG] = slim(data[SVG])
        image = opened(data.pop(PNG)).convert('RGB')
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
        data |= {JPEG: as_jpeg(image)} if JPEG in data[SVG] else {PNG: encoded(image.quantize(64), 'PNG', optimize=True)}


# ---- on the site

PAGE, WORDS = (0x12, 0x12, 0x12), (0xCE, 0xD6, 0xDD)  # ground and text of the dark page
SEEN = 4.5  # contrast of words and of lines, which are thin (WCAG 2, level AA)
SHAPES = '{http://www.w3.org/2000/svg}'
HREF = '{http://www.w3.org/1999/xlink}href'
COLOUR = re.compile(r'(fill|stroke): #([0-9a-f]{6})')


def luminance(rgb):
    "As WCAG 2 defines it."
    parts = [x / 255 / 12.92 if x / 255 <= 0.04045 else ((x / 255 + 0.055) / 1.055) ** 2.4 for x in rgb]
    return sum(part * weight for part, weight in zip(parts, (0.2126, 0.7152, 0.0722), strict=True))


def contrast(rgb):
    return (luminance(rgb) + 0.05) / (luminance(PAGE) + 0.05)


def dark(colour):
    "A colour for the dark page: grey between its ground and its text, another one in its own hue, lightened until it is seen."
    rgb, least = tuple(bytes.fromhex(colour)), SEEN
    if max(rgb) - min(rgb) < 12:
        share = sum(rgb) / 765
        rgb = tuple(round(share * ground + (1 - share) * text) for ground, text in zip(PAGE, WORDS, strict=True))
        least = least if share < 0.6 else 0  # a light grey is a grid, or the ground itself
    hue, light, saturation = colorsys.rgb_to_hls(*(x / 255 for x in rgb))
    while contrast(rgb) < least:
        light += 0.02
        rgb = tuple(round(x * 255) for x in colorsys.hls_to_rgb(hue, light, saturation))
    return bytes(rgb).hex()


def box(image):
    "Where an embedded picture lies: left, top, right, bottom."
    x, y, width, height = (float(image.get(key)) for key in ('x', 'y', 'width', 'height'))
    turned = re.search(r'scale\(1 -1\) translate\(0 (-?[\d.]+)\)', image.get('transform', ''))
    top = -float(turned[1]) - y - height if turned else y
    return x, top, x + width, top + height


def at(node):
    "Where a thing begins, or nothing if it does not say."
    said = node.get('transform', '') if node.tag == f'{SHAPES}g' else node.get('d') or f'{node.get("x")} {node.get("y")}'
    found = re.match(r'(?:translate\(|M )?\s*(-?[\d.]+) (-?[\d.]+)', said)
    return found and (float(found[1]), float(found[2]))


def inside(point, boxes):
    return bool(point) and any(left + 1 < point[0] < right - 1 and top + 1 < point[1] < bottom - 1 for left, top, right, bottom in boxes)


def named(svg):
    "An SVG of matplotlib whose colours have names, and other values in `#dark`; what lies on a photograph or a heat map keeps its own."
    root = ElementTree.fromstring(svg)
    boxes, values = [box(image) for image in root.iter(f'{SHAPES}image')], {}

    def walk(node, words=False, kept=False):
        if node.tag == f'{SHAPES}defs':  # a mark has its colours where it is used
            for mark in node.iter(f'{SHAPES}path'):
                mark.set('style', COLOUR.sub('', mark.get('style', '')))
            return
        words = words or node.get('id', '').startswith('text_')
        kept = kept or node.get('id', '').startswith('QuadMesh') or inside(at(node), boxes)
        style = node.get('style', '')
        if words and node.tag == f'{SHAPES}g' and node.get('transform') and 'fill' not in style:
            style = f'fill: #000000; {style}'.strip('; ')

        def named_colour(match):
            values[match[2]] = dark(match[2])
            return f'{match[1]}: var(--c{match[2]}, #{match[2]})'

        if style:
            node.set('style', style if kept else COLOUR.sub(named_colour, style))
        for child in node:
            walk(child, words, kept)

    walk(root)
    root.set('id', 'dark')
    told = ''.join(f'--c{name}:#{value};' for name, value in sorted(values.items()))
    style = ElementTree.SubElement(root, f'{SHAPES}style')
    style.text = f'#dark:target{{{told}}}#dark:target #patch_1{{display:none}}'
    return ElementTree.tostring(root, encoding='unicode')


def on_site(output):
    "An output as the site shows it: of a picture that is there as SVG, that alone."
    if SVG in output.get('data', {}):
        output.data = {SVG: named(output.data[SVG])}
    return output


def size(svg):
    "Width and height on the page, in its pixels."
    return [round(float(x) * SCREEN / 72) for x in re.search(r'<svg[^>]*? width="([\d.]+)pt" height="([\d.]+)pt"', svg).groups()]


def both(match, folder):
    "A picture that the site shows twice: one for the light page, one for the dark; each leads to itself in full size."
    image, src = match[0], match[1]
    width, height = size((folder / src).read_text(encoding='utf-8'))
    shaped = image.replace('<img ', f'<img width="{width}" height="{height}" loading="lazy" ')
    light, night = (shaped.replace('class="plot"', f'class="plot only-{theme}"') for theme in ('light', 'dark'))
    return f'<a href="{src}">{light}{night.replace(src, f"{src}#dark")}</a>'


PLOT = re.compile(r'<img [^>]*class="plot" src="([^"]+)"[^>]*>')


for prefix, uri in ('', SHAPES.strip('{}')), ('xlink', HREF.partition('}')[0].strip('{')):
    ElementTree.register_namespace(prefix, uri)
