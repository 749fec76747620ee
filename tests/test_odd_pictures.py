"""Some sixty odd and hostile picture files: `open_rgb`, `check_images`, the predictor and the command say the same of each."""

import json

import numpy as np
import pandas as pd
import pytest
from bundled import png, saved, smooth
from PIL import Image, features
from test_images import GREY16, HOSTILE, PIXELS, tiff

from multilabel_nb.command import main
from multilabel_nb.images import open_rgb
from multilabel_nb.tables import check_images

pytestmark = pytest.mark.filterwarnings('ignore:IM image format', 'ignore:a file holds several', 'ignore:Corrupt EXIF')
RGB = Image.fromarray(smooth(1))
ODD_MODES = {'1': 'PNG', 'L': 'PNG', 'LA': 'PNG', 'P': 'PNG', 'RGBA': 'PNG', 'CMYK': 'TIFF', 'YCbCr': 'TIFF', 'LAB': 'TIFF'}
PLAIN = ['BMP', 'DDS', 'GIF', 'ICO', 'IM', 'JPEG', 'JPEG2000', 'MPO', 'PCX', 'PNG', 'PPM', 'QOI', 'SGI', 'TGA', 'TIFF', 'WEBP', 'AVIF']
CUT = ['BMP', 'GIF', 'JPEG', 'JPEG2000', 'PNG', 'PPM', 'TIFF', 'WEBP']


def png_of_16_bit_colours():
    rows = (PIXELS.astype('>u2') * 257).reshape(20, -1)
    return png(30, 20, b''.join(b'\0' + row.tobytes() for row in rows), bits=16)


def frames(fmt):
    return saved(RGB, fmt, save_all=True, append_images=[Image.new('RGB', RGB.size, 'blue')])


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(RGB, 'JPEG', exif=exif)


def wrong_crc():
    data = bytearray(saved(RGB, 'PNG'))
    data[-20] ^= 0xFF  # in the last of the pixels, or the sum over them
    return bytes(data)


def plain(fmt):
    return saved(RGB, 'PNG' if fmt == 'AVIF' and not features.check('avif') else fmt)


def good_files():
    "Name -> bytes of what is a picture."
    yield from ((f'plain.{fmt.lower()}', plain(fmt)) for fmt in PLAIN)
    for mode, fmt in ODD_MODES.items():
        yield f'mode {mode}', saved(Image.new('LAB', (9, 7)) if mode == 'LAB' else RGB.convert(mode), fmt)
    yield from ((f'frames.{fmt.lower()}', frames(fmt)) for fmt in ('GIF', 'PNG', 'TIFF', 'WEBP'))
    yield from ((f'turned {i}', turned(i)) for i in (3, 6))
    yield 'progressive.jpg', saved(RGB, 'JPEG', progressive=True)
    yield 'grey of 16 bits.png', saved(Image.fromarray(GREY16), 'PNG')
    yield 'colours of 16 bits.png', png_of_16_bit_colours()
    yield 'white is zero.tif', tiff(GREY16.astype('<u2'), 0)
    yield 'floats.tif', tiff((GREY16 / 65535).astype('<f4'), 1)
    yield 'one pixel.png', saved(Image.new('RGB', (1, 1)), 'PNG')
    yield 'one row.png', saved(Image.new('RGB', (3000, 1)), 'PNG')
    yield 'words behind it.jpg', saved(RGB, 'JPEG') + b'more'
    yield 'wrong suffix.png', saved(RGB, 'JPEG')


def bad_files():
    "Name -> bytes of what is none."
    yield from HOSTILE.items()
    yield from ((f'half of a {fmt}', saved(PIXELS, fmt)[: len(saved(PIXELS, fmt)) // 2]) for fmt in CUT)
    yield from ((f'start of a {fmt}', saved(PIXELS, fmt)[:16]) for fmt in CUT)
    yield 'spider', saved(RGB.convert('L'), 'SPIDER')
    yield 'wrong sum.png', wrong_crc()
    yield 'null bytes', bytes(500)
    yield 'svg', b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    yield 'pdf', b'%PDF-1.4\n%%EOF'
    yield 'video.mp4', b'\0\0\0\x18ftypisom' + bytes(100)
    yield 'raw.dng', b'II*\0\x08\0\0\0\0\0\0\0\0\0'


GOOD, BAD = dict(good_files()), dict(bad_files())


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp('odd')
    for name, data in {**GOOD, **BAD}.items():
        (made / name).write_bytes(data)
    return made


@pytest.fixture(scope='module')
def verdicts(folder):
    "Name -> what `open_rgb` refuses it with; None where it opens it."

    def refusal(file):
        try:
            assert open_rgb(file).mode == 'RGB'
        except ValueError as e:
            return str(e)

    return {name: refusal(folder / name) for name in [*GOOD, *BAD]}


def test_sixty_files_are_taken_or_refused_as_they_should(verdicts):
    assert len(verdicts) >= 60
    assert {name: told for name, told in verdicts.items() if (told is None) != (name in GOOD)} == {}


def test_check_images_says_the_same(folder, verdicts):
    df = pd.DataFrame({'image_name': list(verdicts)})
    found = check_images(df, folder, suffix='', progress=False)
    told = {name: f'{folder / name}: {what}' for name, what in zip(found.file, found.problem, strict=True)}
    assert told == {name: what for name, what in verdicts.items() if what}


def test_the_predictor_says_the_same(folder, verdicts, predictors):
    for name, said in verdicts.items():
        (answer,) = predictors['onnx'].iter([folder / name], on_error='row')
        assert answer.error == said and (answer.probs is None) == bool(said), name


def test_the_command_says_the_same(folder, verdicts, good, capsys):
    code = main([str(good), *(str(folder / name) for name in verdicts), '--json', '--no-progress'])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 1 and {line['image']: line['error'] for line in lines} == {str(folder / name): said for name, said in verdicts.items()}


def test_several_pictures_in_a_file_are_said():
    for fmt in ('GIF', 'PNG', 'TIFF', 'WEBP'):
        with pytest.warns(UserWarning, match='several pictures: the first is taken'):
            open_rgb(frames(fmt))


FIRST = {'colours of 16 bits.png': PIXELS, 'frames.gif': np.asarray(RGB), 'frames.tiff': np.asarray(RGB), 'frames.webp': np.asarray(RGB)}


@pytest.mark.parametrize('name', FIRST)
def test_what_is_taken_is_the_first_picture_in_its_colours(name, folder):
    assert abs(np.asarray(open_rgb(folder / name)).astype(int) - FIRST[name]).mean() < 6
