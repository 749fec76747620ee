"The pages of the guide: their code, run in one fresh namespace, and what they say that it prints."

import difflib
import io
import re
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / 'docs' / 'guide'
PAGES = {file.stem: file for file in sorted(FOLDER.glob('*.md'))}
BLOCK = re.compile(r'^```(\w+)\n(.*?)^```$', re.M | re.S)


@dataclass
class Block:
    "A block of Python, and the text block after it."

    code: str
    line: int  # of its first line in the page
    said: str  # what the page says that it prints


def blocks(text):
    "The Python of a page."
    found = [*BLOCK.finditer(text), None]
    for block, after in zip(found, found[1:], strict=False):
        if block[1] == 'python':
            shown = after is not None and after[1] == 'text' and not text[block.end() : after.start()].strip()
            yield Block(block[2], text[: block.start(2)].count('\n') + 1, after[2].rstrip('\n') if shown else '')


def printed(block, file, namespace):
    "What a block prints, without blanks at the ends of lines; an error names the line of the page."
    out = io.StringIO()
    with redirect_stdout(out):
        exec(compile('\n' * (block.line - 1) + block.code, str(file), 'exec'), namespace)
    return '\n'.join(line.rstrip() for line in out.getvalue().splitlines())


def differences(file):
    "Where a page says something else than its code prints."
    namespace, found = {'__name__': 'page'}, []
    for block in blocks(file.read_text(encoding='utf-8')):
        now = printed(block, file, namespace)
        if now != block.said:
            lines = difflib.unified_diff(block.said.splitlines(), now.splitlines(), 'page', 'printed', lineterm='', n=0)
            found.append('\n'.join([f'{file.name}, the code at line {block.line}:', *lines]))
    return '\n'.join(found)


if __name__ == '__main__':
    sys.exit(differences(PAGES[sys.argv[1]]) or 0)
