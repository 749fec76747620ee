"""What the home page shows of the live model: a tile that it was not trained on, with the probabilities that the build predicted."""

import json
from pathlib import Path

TILE = """<img class="dark-light" src="live/{file}" width="{width}" height="{height}"
      alt="A tile of forest seen from above, drawn by code. It shows: {labels}.">
    <label class="control" hidden>Threshold <output aria-live="off">0.50</output>
      <input type="range" aria-label="Threshold" min="0" max="1" step="0.01" value="0.5" autocomplete="off"></label>
    <div class="said" hidden><p aria-live="polite"><b>Predicted:</b> <span class="answer"></span></p></div>
    <p><b>True labels:</b> <span class="truth">{labels}</span></p>
    <p class="tally"></p>
    <ol class="labels" aria-label="probabilities">{items}</ol>
    <p class="note">The model was not trained on this tile. The tile was chosen because its prediction is wrong at 0.50 and right at another
      threshold.</p>"""
ITEM = """
      <li data-label="{label}" data-prob="{prob}"><span class="sign" role="img" aria-label="off"></span> <span>{label}</span>
        <span class="bar" aria-hidden="true"><span style="width:{prob:.1%}"></span></span> <data value="{prob}">{prob:.3f}</data></li>"""


def fill(page: Path, folder: Path) -> None:
    "Put the tile with its labels, and the weight of the network, where the home page has places for them."
    about = json.loads((folder / 'about.json').read_text(encoding='utf-8'))
    text = page.read_text(encoding='utf-8')
    for place, what in {'the tile and its labels': tile_html(about['home']), 'megabytes': f'{about["bytes"] / 1e6:.0f}'}.items():
        text = text.replace(f'<!-- {place} -->', what)
    page.write_text(text, encoding='utf-8')


def tile_html(home: dict) -> str:
    "The tile and a list item for each label, the most probable first; it can be read without scripts, and scripts read it too."
    items = [ITEM.format(label=label, prob=prob) for label, prob in sorted(home['probs'].items(), key=lambda pair: -pair[1])]
    return TILE.format(**{**home, 'labels': ', '.join(home['labels'])}, items=''.join(items))
