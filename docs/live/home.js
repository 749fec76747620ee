// The home page: a threshold to move over the labels of one tile, and a tile to paint. Nothing is fetched for either; the network comes when
// the visitor asks for it.

import { LABELS, SIDE, chance, random, render, scenery } from './paint.js';

const MARKS = { hit: '✓', 'false alarm': '✗', miss: '○' }; // as in the threshold explorer of lesson 07
const make = (tag, text = '', options = {}) => Object.assign(document.createElement(tag), { textContent: text }, options);
const listed = names => names.join(', ') || 'none';
const finder = panel => what => panel.querySelector(what);

// Mark each label of a list; in words: which are on, and how that compares with the true ones. `on` and `truth` are lists of names.
function mark(list, on, truth) {
  for (const item of list.children) {
    const name = item.dataset.label;
    const state = on.includes(name) ? (truth.includes(name) ? 'hit' : 'false alarm') : truth.includes(name) ? 'miss' : '';
    const sign = item.querySelector('.sign');
    item.className = state.replace(' ', '-');
    sign.textContent = MARKS[state] ?? '';
    sign.setAttribute('aria-label', state || 'off');
  }
  const count = names => `${names.length}${names.length ? ` (${names.join(', ')})` : ''}`;
  const [wrong, missing] = [on.filter(name => !truth.includes(name)), truth.filter(name => !on.includes(name))];
  return `✓ right: ${on.length - wrong.length}. ✗ wrong: ${count(wrong)}. ○ missing: ${count(missing)}.`;
}

const say = (element, text) => { if (element.textContent !== text) element.textContent = text; }; // read aloud when it changes, and only then

// ---- one tile, many labels

function moveThreshold(panel) {
  const find = finder(panel);
  const [slider, list] = [find('input'), find('.labels')];
  const probs = [...list.children].map(item => [item.dataset.label, Number(item.dataset.prob)]);
  const truth = find('.truth').textContent.split(', ');
  const show = () => {
    const thresh = Number(slider.value);
    const on = probs.filter(([, prob]) => prob > thresh).map(([name]) => name).sort();
    find('output').textContent = thresh.toFixed(2);
    list.style.setProperty('--at', thresh);
    say(find('.answer'), listed(on));
    say(find('.tally'), mark(list, on, truth));
    slider.setAttribute('aria-valuetext', `${thresh.toFixed(2)}: ${on.length} labels`);
  };
  slider.addEventListener('input', show);
  find('.control').hidden = find('.said').hidden = false;
  show();
}

// ---- paint your own

class Painting {
  constructor(panel) {
    this.panel = panel;
    this.find = finder(panel);
    this.canvas = this.find('canvas');
    this.context = this.canvas.getContext('2d');
    this.tiles = 0;
    this.begin();
    this.listen();
    this.find('.status').textContent = '';
    this.find('.tools').hidden = false;
  }

  // An empty tile: another forest, and no stroke.
  begin() {
    this.scene = scenery(++this.tiles);
    this.strokes = [];
    this.changed();
  }

  // Draw when the screen is next drawn, and once; then ask the network.
  changed() {
    if (this.waiting) return;
    this.waiting = true;
    this.panel.dataset.answered = 'not yet'; // so that what waits for the answer can see it
    requestAnimationFrame(() => {
      this.waiting = false;
      this.bytes = render(this.scene, this.strokes);
      this.context.putImageData(new ImageData(this.bytes, SIDE, SIDE), 0, 0);
      this.describe();
      this.answer();
    });
  }

  painted() {
    return Object.keys(LABELS).filter(kind => this.strokes.some(stroke => stroke.kind === kind));
  }

  // The labels that the stand-in would give this tile.
  truth() {
    const labels = this.painted().map(kind => LABELS[kind]);
    return ['primary', ...labels, ...(labels.includes('partly_cloudy') ? [] : ['clear'])].sort();
  }

  describe() {
    this.canvas.setAttribute('aria-label', `Your tile: ${['forest', ...this.painted()].join(', ')}`);
    this.find('.undo').disabled = this.find('.clear').disabled = !this.strokes.length;
    this.find('.truth').textContent = this.truth().join(', ');
  }

  add(stroke) {
    this.strokes.push(stroke);
    this.changed();
  }

  listen() {
    const { canvas, find } = this;
    const place = event => {
      const box = canvas.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
    };
    let stroke;
    canvas.addEventListener('pointerdown', event => {
      if (event.button) return;
      event.preventDefault();
      canvas.setPointerCapture(event.pointerId);
      stroke = { kind: find('input:checked').value, points: [place(event)], seed: 1000 * this.tiles + this.strokes.length };
      this.add(stroke);
    });
    canvas.addEventListener('pointermove', event => {
      if (!stroke) return;
      const all = event.getCoalescedEvents?.() ?? [];
      stroke.points.push(...(all.length ? all : [event]).map(place));
      this.changed();
    });
    for (const end of ['pointerup', 'pointercancel']) canvas.addEventListener(end, () => { stroke = undefined; });
    for (const button of find('.put').children) {
      button.addEventListener('click', () => this.add(random(button.dataset.kind, chance(Math.random() * 2 ** 32))));
    }
    find('.undo').addEventListener('click', () => { this.strokes.pop(); this.changed(); });
    find('.clear').addEventListener('click', () => this.begin());
    find('.ask').addEventListener('click', () => this.load());
  }

  // Fetch the network, which then answers whatever is painted.
  async load() {
    const [button, bar, status] = ['.ask', 'progress', '.status'].map(this.find);
    button.disabled = true;
    bar.hidden = false;
    status.textContent = 'Fetching the model.';
    try {
      this.code = { ...(await import('./network.js')), ...(await import('./pixels.js')) };
      const known = await this.code.facts();
      const probsOf = await this.code.start(known, share => { bar.value = share; });
      this.show(known);
      Object.assign(this, { known, probsOf });
      button.hidden = true;
      status.textContent = 'The model answers while you paint.';
      this.answer();
    } catch (error) {
      status.textContent = error.message;
      button.disabled = false;
    } finally {
      bar.hidden = true;
    }
  }

  // A row for each label.
  show({ bundle }) {
    const find = this.find;
    const rows = bundle.label_names.map(name => {
      const item = make('li');
      item.dataset.label = name;
      const bar = make('span', '', { className: 'bar', ariaHidden: 'true' });
      bar.append(make('span'));
      const sign = make('span', '', { className: 'sign', role: 'img' });
      item.append(sign, ' ', make('span', name), bar, ' ', make('data'));
      return item;
    });
    find('.labels').append(...rows);
    find('.said').hidden = false;
  }

  // One answer at a time; what changed meanwhile is answered next.
  async answer() {
    if (!this.probsOf) return;
    this.stale = true;
    if (this.busy) return;
    this.busy = true;
    while (this.stale) {
      this.stale = false;
      await this.code.shownFirst();
      const bytes = this.bytes;
      const truth = this.truth();
      const cut = (left, top, width, height) => part(bytes, left, top, width, height);
      this.tell(await this.probsOf(SIDE, SIDE, cut), truth);
    }
    this.busy = false;
    if (!this.waiting) this.panel.dataset.answered = 'all';
  }

  tell({ probs, far }, truth) {
    const { find, known: { bundle } } = this;
    const on = this.code.decide(probs, bundle.thresholds, bundle.label_names, bundle.exclusive);
    const names = bundle.label_names.filter((_, i) => on[i]);
    const list = find('.labels');
    [...list.children].forEach(item => {
      const prob = probs[bundle.label_names.indexOf(item.dataset.label)];
      item.querySelector('.bar span').style.width = `${100 * prob}%`;
      Object.assign(item.querySelector('data'), { value: prob, textContent: prob.toFixed(3) });
    });
    list.style.setProperty('--at', bundle.thresholds[0]);
    const tally = mark(list, names, truth);
    say(find('.answer'), this.code.doubt({ probs, far }, this.known) || listed(names));
    say(find('.tally'), tally);
    find('.answer').dataset.far = far.toFixed(2);
  }
}

// A part of the tile, RGBA bytes.
function part(bytes, left, top, width, height) {
  const found = new Uint8ClampedArray(width * height * 4);
  for (let y = 0; y < height; y++) {
    const begin = ((top + y) * SIDE + left) * 4;
    found.set(bytes.subarray(begin, begin + width * 4), y * width * 4);
  }
  return found;
}

moveThreshold(document.querySelector('.try-out .one-tile'));
new Painting(document.querySelector('.try-out .painting'));
