// The live classifier: a picture is opened, prepared and labelled in this page. What is fetched comes from beside this file; nothing is sent.

import { decide, normalise, resize, sigmoid } from './pixels.js';

const MOST = { bytes: 50e6, pixels: 64e6, side: 16384 }; // more would strain the memory of a small device, or its largest canvas
const MARKS = { hit: '✓', 'false alarm': '✗', miss: '○', on: '●' }; // as in the threshold explorer of lesson 07
const root = document.querySelector('.live-classifier');
const find = what => root.querySelector(what);
const here = name => new URL(name, import.meta.url).href;
const make = (tag, text = '', options = {}) => Object.assign(document.createElement(tag), { textContent: text }, options);
const count = (n, what) => `${n.toLocaleString('en')} ${what}`;

const say = text => { find('.status').textContent = text; };
const complain = text => { find('.error').textContent = text; };

// ---- fetching

async function fetched(name) {
  const answer = await fetch(here(name)).catch(() => null);
  if (!answer?.ok) throw new Error(`${name} could not be fetched${answer ? ` (${answer.status})` : ''}: try again later`);
  return answer;
}

async function part(name, { sha256 }) {
  const data = new Uint8Array(await (await fetched(`model/${name}`)).arrayBuffer());
  if (globalThis.crypto?.subtle) { // browsers offer it to pages that came safely, or from this very machine
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', data));
    const found = Array.from(digest, byte => byte.toString(16).padStart(2, '0')).join('');
    if (found !== sha256) throw new Error(`model/${name} is damaged: reload the page`);
  }
  return data;
}

async function start() {
  const ort = await import(here('runtime/ort.wasm.bundle.min.mjs'))
    .catch(() => { throw new Error('runtime/ort.wasm.bundle.min.mjs could not be fetched: try again later'); });
  ort.env.wasm.numThreads = 1; // several would ask the site for special headers
  ort.env.wasm.wasmPaths = { wasm: here('runtime/ort-wasm-simd-threaded.wasm') };
  const graph = await part('model.onnx', bundle.files['model.onnx']);
  const session = await ort.InferenceSession.create(graph, { executionProviders: ['wasm'] });
  return async images => {
    const size = bundle.pretrained_cfg.input_size[1];
    const { logits } = await session.run({ images: new ort.Tensor('float32', images, [1, 3, size, size]) });
    return sigmoid(logits.data);
  };
}

let model;
// The model, fetched when it is first asked for; after a failure the next picture asks again.
function network() {
  if (!model) {
    say(`Fetching the model: ${(about.bytes / 1e6).toFixed(0)} MB, once.`);
    model = start();
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

function prepared(bitmap) {
  const { input_size, mean, std } = bundle.pretrained_cfg;
  return normalise(resize(bitmap.width, bitmap.height, reader(bitmap), input_size[1]), mean, std);
}

// ---- answering

let latest = 0;
let shown; // the answer on the page: name, probs, and for a tile of ours the labels it was drawn with

// Label the picture that `fetchFile` gives. If another one was chosen meanwhile, this one is forgotten; if it fails, what stood there stays.
async function label(name, fetchFile, truth) {
  const mine = ++latest;
  let address;
  complain('');
  say(`Opening ${name}.`);
  try {
    const file = await fetchFile();
    address = URL.createObjectURL(file);
    const bitmap = await opened(name, file, address);
    const probsOf = await network();
    if (mine !== latest) return;
    const began = performance.now();
    const probs = await probsOf(prepared(bitmap));
    bitmap.close();
    if (mine !== latest) return;
    shown = { name, probs, truth };
    showPicture(name, address);
    address = undefined; // it is the page's now
    order();
    showLabels();
    say(`${name} was labelled on this device in ${((performance.now() - began) / 1e3).toFixed(2)} s.`);
  } catch (error) {
    if (mine !== latest) return;
    say(shown ? `Still showing ${shown.name}.` : '');
    complain(error.message);
  } finally {
    if (address) URL.revokeObjectURL(address);
  }
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
  const groups = find('.one').checked ? bundle.exclusive : [];
  const on = decide(probs, rows.map(row => Number(row.input.value)), bundle.label_names, groups);
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
  const names = bundle.label_names.filter((_, i) => on[i]);
  const text = `${shown.name}: ${names.join(', ') || 'no label'}`;
  if (find('.answer').textContent !== text) find('.answer').textContent = text; // read aloud when it changes, and only then
  find('.truth').textContent = truth ? `Drawn with: ${truth.join(', ')} (${legend})` : '';
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
  find('.reset').addEventListener('click', () => { find('.one').checked = true; setAll(bundle.thresholds); });
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
  const body = Object.entries(bundle.scores).map(([name, scores]) => {
    const tr = make('tr');
    tr.append(make('th', name, { scope: 'row' }), ...columns.map(column => make('td', scores[column].toFixed(3))));
    return tr;
  });
  find('.scores thead').append(head);
  find('.scores tbody').append(...body);
  find('.data').textContent = `${count(about.rows.training, 'tiles')} of ${about.data}`;
  find('.others').textContent = about.rows['held out'];
  find('.about').hidden = false;
}

// ---- begin

let bundle;
let about;
try {
  if (typeof WebAssembly !== 'object') throw new Error('This browser has no WebAssembly, or has it switched off; the classifier needs it.');
  [bundle, about] = await Promise.all(['model/config.json', 'about.json'].map(async name => (await fetched(name)).json()));
  bundle.label_names.forEach((name, i) => addRow(name, bundle.thresholds[i]));
  about.examples.forEach(addExample);
  showScores();
  listen();
  find('.choose').hidden = false;
  say('Ready: choose a picture.');
} catch (error) {
  say('');
  complain(error.message);
}
