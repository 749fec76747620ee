// The network: fetched from beside this file, once, and run in this page. Nothing is sent.

import { distance } from './looks.js';
import { normalise, resize, sigmoid } from './pixels.js';

export const here = name => new URL(name, import.meta.url).href;
const RUNTIME = ['runtime/ort.wasm.bundle.min.mjs', 'runtime/ort-wasm-simd-threaded.wasm'];

export async function fetched(name) {
  const answer = await fetch(here(name)).catch(() => null);
  if (!answer?.ok) throw new Error(`${name} could not be fetched${answer ? ` (${answer.status})` : ''}: try again later`);
  return answer;
}

export const fetchJson = async name => (await fetched(name)).json();

// What the model is: its labels, thresholds and scores; the tiles beside it; and which pictures are like its training tiles.
export async function facts() {
  if (typeof WebAssembly !== 'object') throw new Error('This browser has no WebAssembly, or has it switched off; the classifier needs it.');
  const [bundle, about, looks] = await Promise.all(['model/config.json', 'about.json', 'looks.json'].map(fetchJson));
  return { bundle, about, looks };
}

// A file's bytes; `arrived` is told of each piece.
async function bytesOf(name, arrived) {
  const pieces = [];
  const reader = (await fetched(name)).body.getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    pieces.push(piece.value);
    arrived(piece.value.length);
  }
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}

async function checked(name, sha256, arrived) {
  const data = await bytesOf(name, arrived);
  if (globalThis.crypto?.subtle) { // browsers offer it to pages that came safely, or from this very machine
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', data));
    const found = Array.from(digest, byte => byte.toString(16).padStart(2, '0')).join('');
    if (found !== sha256) throw new Error(`${name} is damaged: reload the page`);
  }
  return data;
}

// Fetch the network; `progress` is told the share that has come, 0 to 1. The answer is a function of a picture's width, height and a function
// that cuts parts of it (see `resize`): to probabilities, and how far the picture is from the nearest training tile.
export async function start({ bundle, about, looks }, progress) {
  let come = 0;
  const arrived = n => { come += n; progress(Math.min(come / about.bytes, 1)); };
  const ort = await import(here(RUNTIME[0])).catch(() => { throw new Error(`${RUNTIME[0]} could not be fetched: try again later`); });
  const [program, graph] = await Promise.all([
    bytesOf(RUNTIME[1], arrived),
    checked('model/model.onnx', bundle.files['model.onnx'].sha256, arrived),
  ]);
  ort.env.wasm.numThreads = 1; // several would ask the site for special headers
  ort.env.wasm.wasmBinary = program;
  const session = await ort.InferenceSession.create(graph, { executionProviders: ['wasm'] });
  progress(1);
  const { input_size, mean, std } = bundle.pretrained_cfg;
  const size = input_size[1];
  return async (width, height, cut) => {
    const square = resize(width, height, cut, size);
    const images = new ort.Tensor('float32', normalise(square, mean, std), [1, 3, size, size]);
    const { logits } = await session.run({ images });
    return { probs: sigmoid(logits.data), far: distance(square, looks) };
  };
}

// Why an answer is not sure, in words; nothing where it is. The model's own thresholds count, whatever a slider says, and a weather that is on
// because one must be is no reason to be sure.
export function doubt({ probs, far }, { bundle, looks }) {
  if (far > looks.limit) return 'not sure: the picture is unlike the tiles that the model was trained on';
  if (!probs.some((prob, i) => prob > Math.fround(bundle.thresholds[i]))) return 'not sure: no label reaches its threshold';
  return '';
}

// Time for the page to show what was said, before it is busy.
export const shownFirst = () => new Promise(done => {
  requestAnimationFrame(() => setTimeout(done));
  setTimeout(done, 100); // a page in the background draws nothing
});
