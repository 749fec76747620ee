"""The site of this project, built once, served as its host would, and pages of it in a browser; and files for downloads.

`conftest.py` makes the fixtures known.
"""

import functools
import http.server
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'tools'))

import build_site  # noqa: E402
import lessons  # noqa: E402

BASE = lessons.config()['doc_baseurl']


class AsHosted(http.server.SimpleHTTPRequestHandler):
    "Serves a site as GitHub Pages does: under the project's name, with 404.html for what is not there."

    protocol_version = 'HTTP/1.1'

    def translate_path(self, path):
        inside = path.startswith(f'{BASE}/')
        return super().translate_path(path.removeprefix(BASE) if inside else '/nowhere')

    def send_error(self, code, message=None, explain=None):
        body = (Path(self.directory) / '404.html').read_bytes()
        self.send_response(code)
        self.send_header('Content-Type', 'text/html; charset=utf-8')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope='session')
def site(tmp_path_factory):
    "The site of this project, built once."
    return build_site.build(ROOT, tmp_path_factory.mktemp('built') / 'site')


@pytest.fixture(scope='session')
def address(site):
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(AsHosted, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}{BASE}/'
    server.shutdown()


@pytest.fixture(scope='module')
def served():
    "A server on 127.0.0.1: `served[path] = body`; a body of `(bytes, claimed length)` breaks off."
    bodies = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            body = bodies.get(self.path)
            if body is None:
                self.send_error(404)
                return
            body, length = body if isinstance(body, tuple) else (body, len(body))
            self.send_response(200)
            self.send_header('Content-Length', str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield bodies, f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


def visit(page, url):
    "Open a page and wait until its scripts and formulas are done."
    page.goto(url)
    page.wait_for_load_state('networkidle')
    page.evaluate('window.MathJax?.startup?.promise')


def assert_sound(page, address):
    assert not page.errors
    assert not [url for status, url in page.answers if status >= 400]
    assert not [url for _, url in page.answers if not url.startswith((address, 'data:', 'blob:'))]
