// Is a picture like those that the network was trained on? The same ten numbers as tools/looks.py has them, where they are explained.

const FLOOR = 0.25;

function mean(values) {
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}

function spread(values) {
  const middle = mean(values);
  return Math.sqrt(mean(values.map(value => (value - middle) ** 2)));
}

// The mean difference of neighbours in a grey picture of `side` pixels a side.
function roughness(grey, side) {
  let [down, across] = [0, 0];
  for (let i = 0; i < grey.length; i++) {
    if (i >= side) down += Math.abs(grey[i] - grey[i - side]);
    if (i % side) across += Math.abs(grey[i] - grey[i - 1]);
  }
  return (down + across) / (2 * side * (side - 1));
}

function halved(grey, side) {
  const half = side / 2;
  return Float64Array.from({ length: half * half }, (_, i) => {
    const at = 2 * Math.trunc(i / half) * side + 2 * (i % half);
    return (grey[at] + grey[at + 1] + grey[at + side] + grey[at + side + 1]) / 4;
  });
}

// `square`: RGB bytes, as `resize` of pixels.js gives them.
export function statistics(square) {
  let side = Math.sqrt(square.length / 3);
  const of = formula => Float64Array.from({ length: side * side }, (_, i) => formula(square[3 * i], square[3 * i + 1], square[3 * i + 2]));
  const [grey, red, blue] = [of((r, g, b) => (r + g + b) / 3), of((r, g) => r - g), of((r, g, b) => b - g)];
  const spreads = [spread(grey)];
  let small = grey;
  for (let i = 0; i < 4; i++) {
    spreads.push(roughness(small, side));
    small = halved(small, side);
    side /= 2;
  }
  spreads.push(spread(red), spread(blue));
  return [mean(grey), mean(red), mean(blue), ...spreads.map(value => Math.log2(FLOOR + value))];
}

// How far a picture is from the nearest training picture; above `rule.limit` it is unlike all of them.
export function distance(square, rule) {
  const place = statistics(square).map((value, i) => (value - rule.mean[i]) / rule.std[i]);
  return Math.sqrt(Math.min(...rule.tiles.map(tile => tile.reduce((sum, value, i) => sum + (value - place[i]) ** 2, 0))));
}
