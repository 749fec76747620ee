// The live classifier: a picture is opened, prepared and labelled in this page. What is fetched comes from beside this file; nothing is sent.

import { doubt, facts, fetched, here, shownFirst, start } from './network.js';
import { decide } from './pixels.js';

const MOST = { bytes: 50e6, pixels: 64e6, side: 16384 }; // more would strain the memory of a small device, or its largest canvas
const MARKS = { hit: '✓', 'false alarm': '✗', miss: '○', on: '●' }; // as in the threshold explorer of lesson 07
const root = document.querySelector('.live-classifier');
const find = what => root.querySelector(what);
const make = (tag, text = '', options = {}) => Object.assign(document.createElement(tag), { textContent: text }, options);
const count = (n, what) => `${n.toLocaleString('en')} ${what}`;

const say = text => { find('.status').textContent = text; };
const complain = text => { find('.error').textContent = text; };

// ---- the network

let model;
// The network, fetched when it is first asked for; after a failure the next picture asks again.
function network() {
  if (!model) {
    say(`Fetching the model: ${(known.about.bytes / 1e6).toFixed(0)} MB, once.`);
    model = start(known, share => { find('progress').value = share; });
    model.catch(() => { model = undefined; });
  }
  return model;
}

// ---- opening

const tooLarge = (name, is, most) => new Error(`${name} is too large: ${is}; at most ${most}.`);
const unreadable = name => new Error(`${name} is not an image that this browser can read.`);

// The size of a picture is known before its pixels are unpacked, so that a huge one is refused in time.
async function measured(name, address) {
  const img = new Image();
  await new Promise((resolve, reject) => {
    img.onload = resolve;
    img.onerror = () => reject(unreadable(name));
    img.src = address;
  });
  return { width: img.naturalWidth, height: img.naturalHeight };
}

async function opened(name, file, address) {
  if (file.size > MOST.bytes) throw tooLarge(name, count(Math.ceil(file.size / 1e6), 'MB'), `${MOST.bytes / 1e6} MB`);
  const { width, height } = await measured(name, address);
  if (width * height > MOST.pixels || Math.max(width, height) > MOST.side) {
    const most = `${MOST.pixels / 1e6} million pixels, ${count(MOST.side, 'on a side')}`;
    throw tooLarge(name, `${width.toLocaleString('en')} × ${count(height, 'pixels')}`, most);
  }
  return createImageBitmap(file, { colorSpaceConversion: 'none' }).catch(() => { throw unreadable(name); });
}

// Reads parts of a picture, transparency laid on white.
function reader(bitmap) {
  const canvas = make('canvas');
  const context = canvas.getContext('2d', { willReadFrequently: true });
  return (left, top, width, height) => {
    Object.assign(canvas, { width, height }); // which also clears it
    context.fillStyle = '#fff';
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, -left, -top);
    return context.getImageData(0, 0, width, height).data;
  };
}

// ---- answering

let latest = 0;
let shown; // the answer on the page: name, probs, far, and for a tile of ours the labels it was drawn with

// Label the picture that `fetchFile` gives. If another one was chosen meanwhile, this one is forgotten; if it fails, what stood there stays.
async function label(name, fetchFile, truth) {
  const mine = ++latest;
  let address;
  complain('');
  say(`Opening ${name}.`);
  working();
  try {
    const file = await fetchFile();
    address = URL.createObjectURL(file);
    const bitmap = await opened(name, file, address);
    const probsOf = await network();
    if (mine !== latest) return;
    say(`Labelling ${name}.`);
    working();
    await shownFirst();
    const began = performance.now();
    const answer = await probsOf(bitmap.width, bitmap.height, reader(bitmap));
    bitmap.close();
    if (mine !== latest) return;
    shown = { name, ...answer, truth };
    showPicture(name, address);
    address = undefined; // it is the page's now
    order();
    showLabels();
    say(`${name} was labelled on this device in ${((performance.now() - began) / 1e3).toFixed(2)} s.`);
    bringIntoView();
  } catch (error) {
    if (mine !== latest) return;
    say(shown ? `Still showing ${shown.name}.` : '');
    complain(error.message);
  } finally {
    if (address) URL.revokeObjectURL(address);
    if (mine === latest) find('progress').hidden = true;
  }
}

// Show that work goes on, in sight of who asked for it.
function working() {
  const bar = find('progress');
  bar.hidden = false;
  bar.removeAttribute('value');
  bar.scrollIntoView({ block: 'nearest' });
}

// On a phone the answer lies below what was pressed.
function bringIntoView() {
  const { top } = find('.result').getBoundingClientRect();
  if (top < 0 || top > innerHeight - 250) find('.result').scrollIntoView();
}

function showPicture(name, address) {
  const img = find('.result img');
  URL.revokeObjectURL(img.src);
  img.src = address;
  img.alt = `The picture that was labelled: ${name}`;
  find('.result').hidden = false;
}

// ---- labels and thresholds

const rows = [];
const number = value => value.toFixed(2);

function addRow(name, thresh) {
  const row = find('template').content.cloneNode(true).firstElementChild;
  const get = what => row.querySelector(what);
  get('.name').textContent = name;
  get('input').value = thresh;
  get('input').setAttribute('aria-label', `threshold for ${name}`);
  get('input').addEventListener('input', () => { showLabels(); });
  rows.push({ name, row, sign: get('.sign'), prob: get('data'), bar: get('.bar div'), input: get('input'), output: get('output') });
}

// The most probable label first. Only a new picture changes the order, never a slider.
function order() {
  const places = [...shown.probs.keys()].sort((a, b) => shown.probs[b] - shown.probs[a]);
  find('.labels').append(...places.map(place => rows[place].row));
}

const stateOf = (on, truth, name) => {
  if (!truth) return on ? 'on' : '';
  const is = truth.includes(name);
  return on && is ? 'hit' : on ? 'false alarm' : is ? 'miss' : '';
};

function showShared() {
  const values = new Set(rows.map(row => Number(row.input.value)));
  const shared = find('.shared input');
  const text = values.size > 1 ? 'several' : number([...values][0]);
  if (values.size === 1) shared.value = [...values][0];
  find('.shared output').textContent = text;
  shared.setAttribute('aria-valuetext', text);
}

function showLabels() {
  const { probs, truth } = shown;
  const groups = find('.one').checked ? known.bundle.exclusive : [];
  const on = decide(probs, rows.map(row => Number(row.input.value)), known.bundle.label_names, groups);
  rows.forEach(({ name, row, sign, prob, bar, input, output }, i) => {
    const state = stateOf(on[i], truth, name);
    const grouped = groups.find(group => group.includes(name));
    row.className = state.replace(' ', '-');
    sign.textContent = MARKS[state] ?? '';
    sign.title = state;
    sign.setAttribute('aria-label', state || 'off');
    prob.value = probs[i];
    prob.textContent = probs[i].toFixed(3);
    bar.style.width = `${100 * probs[i]}%`;
    input.disabled = Boolean(grouped);
    output.textContent = grouped ? `the most probable of ${grouped.length} is on` : `threshold ${number(Number(input.value))}`;
    input.setAttribute('aria-valuetext', `${number(Number(input.value))}, ${on[i] ? 'on' : 'off'}`);
  });
  showShared();
  const names = known.bundle.label_names.filter((_, i) => on[i]);
  const said = doubt(shown, known);
  const text = `${shown.name}: ${said || names.join(', ') || 'no label'}`;
  find('.result').classList.toggle('unsure', Boolean(said));
  find('.why').textContent = said && why(names);
  if (find('.answer').textContent !== text) find('.answer').textContent = text; // read aloud when it changes, and only then
  find('.truth').textContent = truth ? `Drawn with: ${truth.join(', ')} (${legend})` : '';
}

// What makes the answer unsure, in numbers.
function why(names) {
  const { far, probs } = shown;
  const { limit } = known.looks;
  if (far <= limit) return `The most probable label has ${Math.max(...probs).toFixed(3)}.`;
  const network = `The network's labels are ${names.join(', ') || 'none'}: do not rely on them.`;
  return `Its distance from the nearest training tile is ${number(far)}; the limit is ${number(limit)}. ${network}`;
}

const legend = ['hit', 'false alarm', 'miss'].map(state => `${MARKS[state]} ${state}`).join(', ');

function setAll(values) {
  rows.forEach((row, i) => { row.input.value = values[i]; });
  showLabels();
}

// ---- choosing a picture

function take(files) {
  const [file] = files;
  if (file) label(file.name, () => file);
  else complain('What was dropped holds no file. Save the picture first, then drop the file.');
}

function listen() {
  find('input[type=file]').addEventListener('change', event => {
    if (event.target.files.length) take([...event.target.files]);
    event.target.value = ''; // so that the same file can be chosen again
  });
  // The whole page takes what is dropped: elsewhere a browser would leave the page and open the file.
  document.addEventListener('dragover', event => { event.preventDefault(); find('.drop').classList.add('over'); });
  document.addEventListener('dragleave', event => { if (!event.relatedTarget) find('.drop').classList.remove('over'); });
  document.addEventListener('drop', event => {
    event.preventDefault();
    find('.drop').classList.remove('over');
    take(event.dataTransfer.files);
  });
  find('.shared input').addEventListener('input', event => setAll(rows.map(() => event.target.value)));
  find('.one').addEventListener('change', showLabels);
  find('.reset').addEventListener('click', () => { find('.one').checked = true; setAll(known.bundle.thresholds); });
}

function addExample({ file, width, height, labels }, i) {
  const name = `tile ${i + 1}`;
  const button = make('button', '', { type: 'button' });
  button.append(make('img', '', { src: here(file), width, height, alt: '', draggable: false, loading: 'lazy' }), make('span', name));
  button.addEventListener('click', () => label(name, async () => (await fetched(file)).blob(), labels));
  find('.examples').append(button);
}

// ---- what the model is

function showScores() {
  const columns = ['f1', 'precision', 'recall', 'accuracy'];
  const head = make('tr');
  head.append(...['answer', ...columns].map(name => make('th', name === 'f1' ? 'F1' : name, { scope: 'col' })));
  const body = Object.entries(known.bundle.scores).map(([name, scores]) => {
    const tr = make('tr');
    tr.append(make('th', name, { scope: 'row' }), ...columns.map(column => make('td', scores[column].toFixed(3))));
    return tr;
  });
  find('.scores thead').append(head);
  find('.scores tbody').append(...body);
  find('.data').textContent = `${count(known.about.rows.training, 'tiles')} of ${known.about.data}`;
  find('.others').textContent = known.about.rows['held out'];
  find('.about').hidden = false;
}

// How many pictures of each kind the rule for *not sure* took for tiles, as the build measured it.
function showAccepted() {
  find('.accepted tbody').append(...Object.entries(known.about.accepted).map(([kind, [accepted, all]]) => {
    const tr = make('tr');
    tr.append(make('th', kind, { scope: 'row' }), ...[all, all - accepted, `${(100 * (all - accepted) / all).toFixed(1)} %`].map(x => make('td', x)));
    return tr;
  }));
}

// ---- begin

let known; // what the model is
try {
  known = await facts();
  known.bundle.label_names.forEach((name, i) => addRow(name, known.bundle.thresholds[i]));
  known.about.examples.forEach(addExample);
  showScores();
  showAccepted();
  listen();
  find('.choose').hidden = false;
  say('Ready: choose a picture.');
} catch (error) {
  say('');
  complain(error.message);
}
