// A tile from strokes of a brush, drawn as multilabel_nb.standins draws one: the same colours, textures and noise, from the ground up.

export const SIDE = 256; // pixels a side
// Each brush, in the order in which things are laid over each other, and the label that the stand-in gives to what it paints.
export const LABELS = { field: 'agriculture', river: 'water', road: 'road', houses: 'habitation', cloud: 'partly_cloudy' };
const WIDTHS = { field: 62, river: 20, road: 2, houses: 40, cloud: 66 }; // pixels

// ---- chance

// Numbers from 0 to 1, always the same for the same seed.
export function chance(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

const uniform = (rng, low, high) => low + (high - low) * rng();
const anyOf = (rng, options) => options[Math.floor(rng() * options.length)];
const soft = x => Math.min(Math.max(x, 0), 1);

// ---- noise

const cubic = x => {
  const d = Math.abs(x);
  return d < 1 ? (1.5 * d - 2.5) * d * d + 1 : d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0;
};

// Enlarge a square of `n` numbers a side to `side`, smoothly, as Pillow's bicubic filter does.
function enlarged(grid, n, side) {
  const taps = Array.from({ length: side }, (_, i) => {
    const centre = ((i + 0.5) * n) / side - 0.5;
    const begin = Math.max(Math.floor(centre) - 1, 0);
    const end = Math.min(Math.floor(centre) + 3, n);
    const parts = [];
    for (let k = begin; k < end; k++) parts.push(cubic(k - centre));
    const whole = parts.reduce((sum, part) => sum + part, 0);
    return { begin, parts: parts.map(part => part / whole) };
  });
  const wide = new Float32Array(n * side);
  for (let y = 0; y < n; y++) {
    taps.forEach(({ begin, parts }, x) => {
      let sum = 0;
      for (let k = 0; k < parts.length; k++) sum += parts[k] * grid[y * n + begin + k];
      wide[y * side + x] = sum;
    });
  }
  const square = new Float32Array(side * side);
  taps.forEach(({ begin, parts }, y) => {
    for (let x = 0; x < side; x++) {
      let sum = 0;
      for (let k = 0; k < parts.length; k++) sum += parts[k] * wide[(begin + k) * side + x];
      square[y * side + x] = sum;
    }
  });
  return square;
}

// Smooth noise, about -1 to 1: `cells` bumps a side, each further octave twice as fine and half as strong.
function noise(rng, cells, octaves = 1, side = SIDE) {
  const total = new Float32Array(side * side);
  for (let i = 0; i < octaves; i++) {
    const n = cells << i;
    const big = enlarged(Float32Array.from({ length: n * n }, () => 16 + Math.floor(rng() * 224)), n, side);
    for (let k = 0; k < total.length; k++) total[k] += (big[k] - 128) / (112 << i);
  }
  return total;
}

const each = make => Float32Array.from({ length: SIDE * SIDE }, (_, i) => make(i));

// A texture: three bands of colour, each a number for every pixel.
const textured = (colour, texture) => [0, 1, 2].map(band => each(i => colour(i)[band] * texture(i)));
const blend = (a, b, mix) => a.map((x, band) => x + (b[band] - x) * mix);

// ---- what lies on a tile before anything is painted, and what the brushes lay over it

function forest(rng) {
  const side = SIDE + 1;
  const [big, small] = [Math.floor(uniform(rng, 44, 60)), Math.floor(uniform(rng, 72, 105))];
  const [one, two] = [noise(rng, big, 1, side), noise(rng, small, 1, side)];
  const crowns = one.map((x, i) => 0.6 * x + 0.55 * two[i]);
  const [gaps, slow] = [noise(rng, small), noise(rng, 4, 3)];
  const [light, dark] = [uniform(rng, 0.14, 0.24), uniform(rng, 0.12, 0.24)];
  const colour = [uniform(rng, 42, 54), uniform(rng, 55, 65), uniform(rng, 42, 52)];
  return textured(() => colour, i => {
    const [x, y] = [i % SIDE, Math.trunc(i / SIDE)];
    const lit = crowns[(y + 1) * side + x + 1] - crowns[y * side + x];
    return 1 + light * lit + dark * Math.min(gaps[i], 0.3) + 0.07 * slow[i];
  });
}

const GREENS = [[98, 108, 80], [86, 102, 70], [114, 118, 90], [92, 100, 74]];
const BROWNS = [[128, 114, 92], [138, 116, 102], [140, 128, 104], [112, 100, 84], [150, 134, 114]];

// Straight parcels: for each pixel the number of its parcel, whether it lies on the rim between two, and how brown each parcel is.
function parcels(rng) {
  const [angle, size] = [uniform(rng, 0, Math.PI), uniform(rng, 30, 44)];
  const long = size * uniform(rng, 1, 1.6);
  const [cos, sin, warp] = [Math.cos(angle), Math.sin(angle), noise(rng, 40)];
  const shift = Float32Array.from({ length: 64 }, rng);
  const [number, rim] = [new Uint16Array(SIDE * SIDE), new Float32Array(SIDE * SIDE)];
  for (let k = 0; k < number.length; k++) {
    const [x, y] = [k % SIDE, Math.trunc(k / SIDE)];
    const u = (x * cos + y * sin + 1.2 * warp[k]) / long;
    const i = Math.floor(u);
    const v = (y * cos - x * sin + 1.2 * warp[k]) / size + shift[i & 63];
    const j = Math.floor(v);
    number[k] = (i & 63) * 64 + (j & 63);
    rim[k] = Math.min(u - i, v - j) < 1.5 / size ? 1 : 0;
  }
  return { number, rim, tone: Float32Array.from({ length: 4096 }, rng) };
}

// Of which parcels a fair part is under the mask: 1 there, 0 elsewhere.
function taken({ number }, mask) {
  const [whole, under] = [new Float32Array(4096), new Float32Array(4096)];
  number.forEach((parcel, i) => { whole[parcel]++; under[parcel] += mask[i]; });
  return each(i => (under[number[i]] > 0.3 * whole[number[i]] ? 1 : 0));
}

// Grass and soil that merge, parcel by parcel; and how far single trees leave the ground open.
function land(rng) {
  const [green, brown] = [anyOf(rng, GREENS), anyOf(rng, BROWNS)];
  const plots = parcels(rng);
  const [base, slow, grain, grains] = [uniform(rng, 0.3, 0.7), noise(rng, 4, 5), noise(rng, 110), noise(rng, 30, 2)];
  const [fine, wide] = [noise(rng, 80), noise(rng, 6, 3)];
  const colours = textured(i => blend(green, brown, soft(base + 0.5 * slow[i] + 1.2 * (plots.tone[plots.number[i]] - 0.5))),
    i => 1 + 0.06 * grain[i] + 0.08 * grains[i]);
  const cover = each(i => 0.95 * (1 - 0.35 * plots.rim[i]) * (1 - 0.75 * soft((0.8 * fine[i] + 0.7 * wide[i] - 0.9) * 3)));
  return { colours, cover, plots };
}

const WATERS = [[138, 114, 82], [120, 104, 80], [92, 92, 96], [22, 30, 34]];
const DIRT = [[172, 144, 114], [180, 162, 134], [166, 124, 94], [152, 140, 122]];
const ROOFS = [[226, 222, 214], [210, 200, 188], [216, 202, 194]];

// Everything about a tile that no stroke changes.
export function scenery(seed) {
  const rng = chance(seed);
  const [water, dirt] = [anyOf(rng, WATERS), anyOf(rng, DIRT)];
  const [even, gravel, yards, mud] = [noise(rng, 3, 3), noise(rng, 60), noise(rng, 70), noise(rng, 30)];
  const [white, heaps] = [uniform(rng, 205, 240), noise(rng, 16, 3)];
  return {
    seed,
    forest: forest(rng),
    field: land(rng),
    water: textured(() => water, i => 1 + 0.06 * even[i]),
    dirt: textured(() => dirt, i => 1 + 0.08 * gravel[i]),
    yard: textured(i => blend([110, 118, 84], [164, 146, 122], soft(0.6 + mud[i])), i => 1 + 0.15 * yards[i]),
    cloud: textured(() => [white, white * 0.99, white * 0.97], i => 0.94 + 0.06 * heaps[i]),
    roof: anyOf(rng, ROOFS),
    worn: noise(rng, 20),
    edge: { river: noise(rng, 9, 3), houses: noise(rng, 7, 4) },
    billows: noise(rng, 7, 5),
    exposure: uniform(rng, 0.9, 1.1),
    grain: each(() => Math.floor(rng() * 5) - 2),
  };
}

// ---- strokes: { kind, points: [[x, y], …], seed }

function pen() {
  const canvas = Object.assign(document.createElement('canvas'), { width: SIDE, height: SIDE });
  return Object.assign(canvas.getContext('2d', { willReadFrequently: true }), { lineCap: 'round', lineJoin: 'round' });
}

// What a pen leaves on an empty sheet: for each pixel how far it is covered, 0 to 1.
function drawn(draw) {
  const context = pen();
  draw(context);
  const { data } = context.getImageData(0, 0, SIDE, SIDE);
  return each(i => data[i * 4 + 3] / 255);
}

function follow(context, points) {
  context.beginPath();
  points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  if (points.length === 1) context.lineTo(points[0][0] + 0.01, points[0][1]);
  context.stroke();
}

const lines = (strokes, width) => drawn(context => {
  context.lineWidth = width;
  strokes.forEach(({ points }) => follow(context, points));
});

// The mask, its edge softened over some eight pixels.
function blurred(mask) {
  const small = new Float32Array(1024);
  for (let i = 0; i < mask.length; i++) small[Math.trunc(i / SIDE / 8) * 32 + Math.trunc((i % SIDE) / 8)] += mask[i] / 64;
  return enlarged(small, 32, SIDE);
}

// The mask with a natural edge.
function rough(mask, ragged, shift, edge) {
  const level = blurred(mask);
  return level.map((x, i) => soft((x + ragged * shift[i] * soft(x * 2) - 0.5) * edge + 0.5));
}

// Points along a stroke, `step` pixels apart, each with the direction there.
function along(points, step) {
  const found = [];
  let [rest, last] = [0, points[0]];
  for (const point of points) {
    const [dx, dy] = [point[0] - last[0], point[1] - last[1]];
    const far = Math.hypot(dx, dy);
    for (let at = rest; far && at < far; at += step) found.push([last[0] + (dx * at) / far, last[1] + (dy * at) / far, dx / far, dy / far]);
    rest = far ? ((rest - far) % step + step) % step : rest;
    last = point;
  }
  return found.length ? found : [[...points[0], 1, 0]];
}

// Crooked little rectangles on both sides of the stroke.
function roofs(strokes) {
  const shapes = [];
  for (const { points, seed } of strokes) {
    const rng = chance(seed);
    for (const [x, y, dx, dy] of along(points, 2)) {
      const side = anyOf(rng, [-1, 1]) * uniform(rng, 3, 8);
      const slip = uniform(rng, -1.5, 1.5);
      const [long, wide, strength] = [uniform(rng, 1.3, 2.8), uniform(rng, 1, 2), uniform(rng, 0.6, 1)];
      const centre = [x - dy * side + dx * slip, y + dx * side + dy * slip];
      const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]]
        .map(([a, b]) => [centre[0] + dx * a * long - dy * b * wide, centre[1] + dy * a * long + dx * b * wide]);
      shapes.push({ corners, strength });
    }
  }
  return shapes;
}

const polygons = (shapes, shift) => drawn(context => {
  for (const { corners, strength } of shapes) {
    context.fillStyle = `rgb(0 0 0 / ${strength})`;
    context.beginPath();
    corners.forEach(([x, y]) => context.lineTo(x + shift, y + shift));
    context.fill();
  }
});

// ---- the picture

// Lay a texture, or one colour, over part of the picture.
function paint(rgb, mask, colour, strength = 1) {
  for (let band = 0; band < 3; band++) {
    const [to, from] = [rgb[band], colour[band]];
    const flat = typeof from === 'number';
    for (let i = 0; i < to.length; i++) if (mask[i]) to[i] += mask[i] * strength * ((flat ? from : from[i]) - to[i]);
  }
}

const LAYERS = {
  field(rgb, scene, strokes) {
    const mask = taken(scene.field.plots, lines(strokes, WIDTHS.field));
    paint(rgb, mask.map((x, i) => x * scene.field.cover[i]), scene.field.colours);
  },
  river(rgb, scene, strokes) {
    paint(rgb, rough(lines(strokes, WIDTHS.river), 0.22, scene.edge.river, 6), scene.water, 0.97);
  },
  road(rgb, scene, strokes) {
    paint(rgb, lines(strokes, WIDTHS.road).map((x, i) => x * (0.85 + 0.15 * scene.worn[i])), scene.dirt);
  },
  houses(rgb, scene, strokes) {
    paint(rgb, rough(lines(strokes, WIDTHS.houses), 1.2, scene.edge.houses, 1.2), scene.yard, 0.6);
    const shapes = roofs(strokes);
    paint(rgb, polygons(shapes, 1.2), [36, 40, 38], 0.5);
    paint(rgb, polygons(shapes, 0), scene.roof);
  },
};

function clouds(rgb, scene, strokes) {
  const level = blurred(blurred(lines(strokes, WIDTHS.cloud)));
  const cover = level.map((x, i) => soft((x + 0.5 * scene.billows[i] * soft(x * 4) - 0.45) * 1.2));
  const shadow = each(i => {
    const [x, y] = [(i % SIDE) + 22, Math.trunc(i / SIDE) - 26];
    return x < SIDE && y >= 0 ? cover[y * SIDE + x] : 0;
  });
  paint(rgb, shadow, [20, 26, 32], 0.35);
  paint(rgb, cover.map(x => x * (2 - x)), scene.cloud);
}

// The tile as RGBA bytes.
export function render(scene, strokes) {
  const of = kind => strokes.filter(stroke => stroke.kind === kind);
  const rgb = scene.forest.map(band => band.slice());
  for (const [kind, lay] of Object.entries(LAYERS)) if (of(kind).length) lay(rgb, scene, of(kind));
  const air = [142, 152, 136];
  for (let band = 0; band < 3; band++) {
    for (let i = 0; i < rgb[band].length; i++) rgb[band][i] += 0.08 * (air[band] - (rgb[band][i] *= scene.exposure));
  }
  if (of('cloud').length) clouds(rgb, scene, of('cloud'));
  const bytes = new Uint8ClampedArray(SIDE * SIDE * 4).fill(255);
  for (let i = 0; i < SIDE * SIDE; i++) for (let band = 0; band < 3; band++) bytes[i * 4 + band] = rgb[band][i] + scene.grain[i];
  return bytes;
}

// One thing at a random place, as a stroke.
export function random(kind, rng) {
  const [angle, x, y] = [uniform(rng, 0, 2 * Math.PI), uniform(rng, 70, 186), uniform(rng, 70, 186)];
  const reach = { field: 45, river: 400, road: 400, houses: 45, cloud: 40 }[kind];
  const [sway, phase, turns] = [{ river: 22, road: 7 }[kind] ?? 6, uniform(rng, 0, 6), uniform(rng, 2, 4)];
  const points = Array.from({ length: 60 }, (_, i) => {
    const t = i / 29.5 - 1;
    const side = sway * Math.sin(phase + t * turns * (reach / 100));
    return [x + Math.cos(angle) * t * reach - Math.sin(angle) * side, y + Math.sin(angle) * t * reach + Math.cos(angle) * side];
  });
  return { kind, points, seed: Math.floor(rng() * 2 ** 32) };
}
