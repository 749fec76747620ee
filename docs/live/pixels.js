// From pixels to what the network takes, and from its answer to labels: as `preprocess` and `decide` of multilabel_nb.inference do it.

const BITS = 22; // of the fraction in Pillow's fixed-point weights
const LINES = 64; // of a picture that are looked at together

// For each of `to` places: where the pixels it is made of begin, and their weights, as Pillow's bilinear filter has them. Where the
// picture shrinks, the triangle is widened by as much, so that every pixel counts; a canvas's drawImage does not promise that.
function weights(from, to) {
  const scale = from / to;
  const reach = Math.max(scale, 1);
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const begin = Math.max(Math.trunc(centre - reach + 0.5), 0);
    const end = Math.min(Math.trunc(centre + reach + 0.5), from);
    const parts = [];
    for (let i = begin; i < end; i++) parts.push(Math.max(1 - Math.abs((i - centre + 0.5) * (1 / reach)), 0));
    const whole = parts.reduce((sum, part) => sum + part, 0);
    return { begin, parts: parts.map(part => Math.trunc(0.5 + (part / whole) * 2 ** BITS)) };
  });
}

// The weighted mean of bytes that lie `step` apart.
function mixed(bytes, at, step, parts) {
  let sum = 2 ** (BITS - 1);
  for (let i = 0; i < parts.length; i++) sum += parts[i] * bytes[at + i * step];
  return Math.min(sum >> BITS, 255);
}

// Squeeze a picture to a square, byte for byte as Pillow 13 does: along one axis, rounded, then along the other, and rows come first in a
// picture that loses far more of its height than of its width. `cut(left, top, width, height)` gives a part of it, RGBA, so that a large
// picture is never held twice. The answer is RGB, `size * size * 3` bytes.
export function resize(width, height, cut, size) {
  const tall = height - size > 2 * Math.max(width - size, 0);
  const [length, lines] = tall ? [height, width] : [width, height];
  const stride = size * 3;
  const narrow = new Uint8Array(lines * stride);
  const first = weights(length, size);
  for (let start = 0; start < lines; start += LINES) {
    const n = Math.min(LINES, lines - start);
    const pixels = tall ? cut(start, 0, n, height) : cut(0, start, width, n);
    const [along, across] = tall ? [4 * n, 4] : [4, 4 * width];
    for (let line = 0; line < n; line++) {
      for (let i = 0; i < stride; i++) {
        const { begin, parts } = first[Math.trunc(i / 3)];
        narrow[(start + line) * stride + i] = mixed(pixels, line * across + begin * along + (i % 3), along, parts);
      }
    }
  }
  const square = new Uint8Array(size * stride);
  weights(lines, size).forEach(({ begin, parts }, place) => {
    for (let i = 0; i < stride; i++) {
      const [x, y] = tall ? [place, Math.trunc(i / 3)] : [Math.trunc(i / 3), place];
      square[y * stride + x * 3 + (i % 3)] = mixed(narrow, begin * stride + i, stride, parts);
    }
  });
  return square;
}

// RGB bytes to float32, channel by channel, scaled to [0, 1] and normalised.
export function normalise(square, mean, std) {
  const plane = square.length / 3;
  const images = new Float32Array(square.length);
  for (let channel = 0; channel < 3; channel++) {
    const slope = Math.fround(1 / (255 * std[channel]));
    const shift = Math.fround(mean[channel] / std[channel]);
    for (let i = 0; i < plane; i++) images[channel * plane + i] = Math.fround(square[i * 3 + channel] * slope) - shift;
  }
  return images;
}

export const sigmoid = logits => Float32Array.from(logits, logit => 1 / (1 + Math.exp(-logit)));

// Which labels are on: those above their own threshold; of each group in `exclusive` the most probable one, and no other.
export function decide(probs, thresholds, vocab, exclusive) {
  const on = Array.from(probs, (prob, i) => prob > Math.fround(thresholds[i]));
  for (const group of exclusive) {
    const places = group.map(label => vocab.indexOf(label)).sort((a, b) => a - b);
    const best = places.reduce((best, place) => (probs[place] > probs[best] ? place : best));
    for (const place of places) on[place] = place === best;
  }
  return on;
}
