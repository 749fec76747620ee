"""What the notebook on images cannot show: the many kinds of image files, and hostile ones."""

import gzip
import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bundled import png_of_size, saved
from PIL import Image, ImageCms

from multilabel_nb.images import open_rgb
from multilabel_nb.standins.planet import make_planet

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
GREY16 = np.linspace(0, 65535, 600).astype(np.uint16).reshape(20, 30)


def tiff(values: np.ndarray, photometric: int, bits: int = 0, size: tuple = ()) -> bytes:
    "A grey TIFF of one strip, in the byte order of its values, which are stored as they are; 0 as photometric: white is zero."
    order = '>' if values.dtype.byteorder == '>' else '<'
    width, height = size or values.shape[::-1]
    kind = 3 if values.dtype.kind == 'f' else 1
    tags = {256: width, 257: height, 258: bits or values.itemsize * 8, 259: 1, 262: photometric}
    tags |= {273: 8, 277: 1, 278: height, 279: values.nbytes, 339: kind}
    body = values.tobytes() + bytes(values.nbytes % 2)
    entries = b''.join(struct.pack(f'{order}HHII', tag, 4, 1, value) for tag, value in tags.items())
    head = (b'MM' if order == '>' else b'II') + struct.pack(f'{order}HI', 42, 8 + len(body))
    return head + body + struct.pack(f'{order}H', len(tags)) + entries + bytes(4)


def test_plain_rgb_is_untouched():
    for fmt in ('PNG', 'BMP', 'TIFF', 'WEBP'):
        data = saved(Image.fromarray(PIXELS), fmt, **({'lossless': True} if fmt == 'WEBP' else {}))
        assert (np.asarray(open_rgb(data)) == PIXELS).all(), fmt
    jpg = saved(Image.fromarray(PIXELS), 'JPEG')
    assert (np.asarray(open_rgb(jpg)) == np.asarray(Image.open(io.BytesIO(jpg)))).all()


def test_path_string_bytes_and_open_file_agree(tmp_path):
    file = tmp_path / 'ä tile.png'
    Image.fromarray(PIXELS).save(file)
    with open(file, 'rb') as f:
        images = [open_rgb(file), open_rgb(str(file)), open_rgb(file.read_bytes()), open_rgb(f), open_rgb(io.BytesIO(file.read_bytes()))]
        assert not f.closed
    assert all(img.mode == 'RGB' and (np.asarray(img) == PIXELS).all() for img in images)


def test_cmyk_is_what_pillow_makes_of_it(tmp_path):
    src = make_planet(tmp_path / 'tiles', n=3)
    for file in (src / 'train').iterdir():
        img = Image.open(file)
        assert img.mode == 'CMYK'
        assert (np.asarray(open_rgb(file)) == np.asarray(img.convert('RGB'))).all()


def test_real_planet_tiles_are_what_pillow_makes_of_them():
    real = Path(__file__).resolve().parents[2] / 'shared' / 'data' / 'planet_sample' / 'train'
    if not real.exists():
        pytest.skip('no real Planet sample beside the checkout')
    for file in sorted(real.iterdir())[::50]:
        with Image.open(file) as img:
            assert img.mode == 'CMYK'
            assert (np.asarray(open_rgb(file)) == np.asarray(img.convert('RGB'))).all()


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_rotation_is_carried_out(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(PIXELS)
    undo = {2: 'FLIP_LEFT_RIGHT', 3: 'ROTATE_180', 4: 'FLIP_TOP_BOTTOM', 5: 'TRANSPOSE', 6: 'ROTATE_270', 7: 'TRANSVERSE', 8: 'ROTATE_90'}
    upright = stored.transpose(Image.Transpose[undo[orientation]]) if orientation > 1 else stored
    opened = open_rgb(saved(stored, 'PNG', exif=exif))
    assert opened.size == upright.size
    assert (np.asarray(opened) == np.asarray(upright)).all()


def test_transparency_is_laid_on_white():
    half = Image.new('RGBA', (4, 4), (0, 0, 0, 128))
    clear = Image.new('RGBA', (4, 4), (9, 9, 9, 0))
    palette = Image.new('P', (4, 4), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    for data, expected in [
        (saved(half, 'PNG'), (127, 127, 127)),
        (saved(clear, 'PNG'), (255, 255, 255)),
        (saved(clear.convert('LA'), 'PNG'), (255, 255, 255)),
        (saved(palette, 'PNG', transparency=1), (255, 255, 255)),
        (saved(palette, 'GIF', transparency=1), (255, 255, 255)),
        (saved(palette, 'PNG', transparency=0), (0, 0, 255)),
        (saved(palette, 'PNG'), (0, 0, 255)),
        (saved(Image.new('RGB', (4, 4), (1, 2, 3)), 'PNG', transparency=(1, 2, 3)), (255, 255, 255)),
        (saved(Image.new('L', (4, 4), 5), 'PNG', transparency=5), (255, 255, 255)),
    ]:
        assert open_rgb(data).getpixel((0, 0)) == expected


def test_sixteen_bits_are_scaled_not_cut():
    expected = np.round(GREY16 / 65535 * 255)
    big_endian = Image.frombytes('I;16B', (30, 20), GREY16.astype('>u2').tobytes())
    pgm = b'P5\n30 20\n65535\n' + GREY16.astype('>u2').tobytes()
    for data in (saved(Image.fromarray(GREY16), 'PNG'), saved(Image.fromarray(GREY16), 'TIFF'), saved(big_endian, 'TIFF'), pgm):
        pixels = np.asarray(open_rgb(data)).astype(int)
        assert abs(pixels - expected[..., None]).max() <= 1
        assert len(np.unique(pixels)) > 200


def test_float_one_bit_and_other_modes():
    ramp = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    pixels = np.asarray(open_rgb(saved(Image.fromarray(ramp), 'TIFF')))
    assert pixels.min() == 0 and pixels.max() == 255 and abs(pixels[..., 0] - ramp * 255).max() <= 0.51
    assert open_rgb(saved(Image.new('1', (4, 4), 1), 'PNG')).getpixel((0, 0)) == (255, 255, 255)
    assert open_rgb(saved(Image.new('L', (4, 4), 77), 'PNG')).getpixel((0, 0)) == (77, 77, 77)
    assert open_rgb(saved(Image.new('YCbCr', (4, 4), (77, 128, 128)), 'TIFF')).getpixel((0, 0)) == (77, 77, 77)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    assert open_rgb(saved(Image.new('RGB', (4, 4), (1, 2, 3)), 'PNG', icc_profile=profile)).getpixel((0, 0)) == (1, 2, 3)
    frames = [Image.new('RGB', (4, 4), colour) for colour in ('red', 'blue')]
    assert open_rgb(saved(frames[0], 'GIF', save_all=True, append_images=frames[1:])).getpixel((0, 0)) == (255, 0, 0)


def test_white_as_zero_is_no_negative():
    "TIFF tag 262 with value 0: eight bits, which Pillow turns round itself, sixteen, and floats in either byte order."
    for dtype, top in [('u1', 255), ('<u2', 65535), ('<f4', 1), ('>f4', 1)]:
        values = np.linspace(0, top, 600).reshape(20, 30).astype(dtype)
        white, black = (open_rgb(tiff(values, photometric)) for photometric in (0, 1))
        assert np.asarray(black)[0, 0, 0] == 0 and np.asarray(black)[-1, -1, 0] == 255, dtype
        assert abs(np.asarray(white).astype(int) + np.asarray(black) - 255).max() <= 1, dtype


def test_twelve_bits_are_scaled_too():
    "Two values in three bytes; the largest is white."
    packed = np.array([0xFF, 0xF0, 0x00, 0x80, 0x00, 0x00], np.uint8)  # 4095, 0, 2048, 0
    assert np.asarray(open_rgb(tiff(packed, 1, bits=12, size=(4, 1))))[0, :, 0].tolist() == [255, 0, 128, 0]


def test_arrays_are_the_pictures_they_hold():
    grey = PIXELS[..., 0]
    for values, want in [
        (PIXELS, PIXELS),
        (PIXELS[::-1, ::-2], PIXELS[::-1, ::-2]),
        (np.asfortranarray(PIXELS), PIXELS),
        (grey, np.dstack([grey] * 3)),
        (grey[..., None], np.dstack([grey] * 3)),
        (np.dstack([PIXELS, np.full_like(grey, 255)]), PIXELS),
        (np.dstack([PIXELS, np.zeros_like(grey)]), np.full_like(PIXELS, 255)),
        (grey.astype(np.uint16) * 257, np.dstack([grey] * 3)),
    ]:
        assert (np.asarray(open_rgb(values)) == want).all()


NO_PICTURE = [None, 7, [], {}, PIXELS / 255, PIXELS.astype(int), PIXELS[None], PIXELS[:0], PIXELS[0, 0], PIXELS.astype(bool)]


@pytest.mark.parametrize('image', NO_PICTURE, ids=lambda image: f'{type(image).__name__} {getattr(image, "dtype", "")}')
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(ValueError, match='give a path, bytes, an open file|an array must be'):
        open_rgb(image)


def test_open_files_of_every_kind(tmp_path):
    data = saved(Image.fromarray(PIXELS), 'PNG')
    with gzip.open(tmp_path / 'a.png.gz', 'wb') as f:
        f.write(data)
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as z:
        z.writestr('a.png', data)
    pipe, end = os.pipe()  # cannot be rewound
    with open(end, 'wb') as f:
        f.write(data)
    at_its_end = io.BytesIO(data)
    at_its_end.read()
    with gzip.open(tmp_path / 'a.png.gz') as a, zipfile.ZipFile(tmp_path / 'a.zip') as z, z.open('a.png') as b, open(pipe, 'rb') as c:
        for file in (a, b, c, at_its_end):
            assert (np.asarray(open_rgb(file)) == PIXELS).all() and not file.closed
    (tmp_path / 'a.txt').write_text('text')
    with open(tmp_path / 'a.txt') as f, pytest.raises(ValueError, match='a.txt: .*binary mode'):
        open_rgb(f)
    with open(tmp_path / 'new.png', 'wb') as f, pytest.raises(ValueError, match='new.png: .*UnsupportedOperation'):
        open_rgb(f)
    with pytest.raises(ValueError, match='BytesIO: the file is empty'):
        open_rgb(io.BytesIO())


def test_a_picture_of_pillow_is_left_as_it_is():
    exif = Image.Exif()
    exif[0x0112] = 6
    img = Image.open(io.BytesIO(saved(Image.fromarray(PIXELS), 'PNG', exif=exif)))
    assert open_rgb(img).size == (20, 30) and img.size == (30, 20) and img.getexif()[0x0112] == 6
    assert open_rgb(img).tobytes() == open_rgb(img).tobytes()


JPG = saved(Image.fromarray(PIXELS).resize((300, 200)), 'JPEG')
HOSTILE = {
    'empty.jpg': b'',
    'text.jpg': b'I am no picture.\n' * 10,
    'html.png': b'<!doctype html><title>404</title>',
    'cut.jpg': JPG[: len(JPG) // 2],
    'cut.png': saved(Image.fromarray(PIXELS), 'PNG')[:900],
    'header only.jpg': JPG[:20],
    'bomb.png': png_of_size(60000, 60000),
    'no pixels.png': png_of_size(30, 20),
    'nan.tif': saved(Image.fromarray(np.full((4, 4), np.nan, np.float32)), 'TIFF'),
    'float 0 to 255.tif': saved(Image.fromarray(np.full((4, 4), 200, np.float32)), 'TIFF'),
    'negative.tif': saved(Image.fromarray(np.full((4, 4), -5, np.int32)), 'TIFF'),
    'zip.jpg': b'PK\x03\x04' + bytes(200),
    'iphone.heic': b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + bytes(200),
}
SAID = {'empty.jpg': 'the file is empty', 'iphone.heic': 'HEIC needs pillow-heif', 'text.jpg': 'not an image of any known format'}


@pytest.mark.parametrize('name', HOSTILE)
def test_hostile_file_is_an_error_that_names_it(name, tmp_path):
    file = tmp_path / name
    file.write_bytes(HOSTILE[name])
    with pytest.raises(ValueError) as error:
        open_rgb(file)
    assert str(error.value).startswith(f'{file}: {SAID.get(name, "")}')
    for form in (HOSTILE[name], io.BytesIO(HOSTILE[name])):
        with pytest.raises(ValueError, match=f'bytes: {SAID.get(name, "")}|BytesIO: {SAID.get(name, "")}'):
            open_rgb(form)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='gone.jpg'):
        open_rgb(tmp_path / 'gone.jpg')
    with pytest.raises(ValueError, match=tmp_path.name):
        open_rgb(tmp_path)
