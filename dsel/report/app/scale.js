// From values to pixels, and round numbers between two values.

export function linear([low, high], [from, to]) {
  const span = high - low || 1;
  const scale = (value) => from + ((value - low) / span) * (to - from);
  scale.ticks = (count) => ticks(low, high, count);
  return scale;
}

export function logarithmic([low, high], range) {
  const inner = linear([Math.log10(low), Math.log10(high)], range);
  const scale = (value) => inner(Math.log10(value));
  scale.ticks = (count) => logTicks(low, high, count);
  return scale;
}

// For means and all that is drawn around them: logarithmic where the means lie far apart, and bars that reach 0 then end at the edge
export function fitted(means, values, range) {
  const [least, most] = [Math.min(...means), Math.max(...means)];
  if (!(least > 0 && most > 300 * least)) return linear(padded(values), range);
  const [low, high] = paddedLog([least, most, ...values.filter((value) => value > least / 3)]);
  const inner = logarithmic([low, high], range);
  const scale = (value) => inner(Math.max(value, low));
  scale.ticks = inner.ticks;
  return scale;
}

// A domain with some air, so that no mark lies on the frame
export function padded(values, share = 0.06) {
  const kept = values.filter((value) => value != null && Number.isFinite(value));
  if (!kept.length) return [0, 1];
  const [low, high] = [kept.reduce((a, b) => Math.min(a, b)), kept.reduce((a, b) => Math.max(a, b))];
  const air = (high - low) * share || Math.abs(high) * 0.05 || 1;
  return [low - air, high + air];
}

export function paddedLog(values, share = 0.06) {
  const [low, high] = padded(values.filter((value) => value > 0).map(Math.log10), share);
  return [10 ** low, 10 ** high];
}

export const spansDecades = (values) => values.every((value) => value > 0) && Math.max(...values) >= 8 * Math.min(...values);

function ticks(low, high, count = 6) {
  if (!(high > low)) return [low];
  const unit = 10 ** Math.floor(Math.log10((high - low) / count));
  const off = (step) => Math.abs(Math.log((high - low) / step / count));
  const step = [0.5, 1, 2, 2.5, 5, 10].map((factor) => factor * unit).reduce((best, each) => (off(each) < off(best) ? each : best));
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, at) => Number(((first + at) * step).toPrecision(12)));
}

function logTicks(low, high, count) {
  for (const factors of [[1, 2, 3, 5], [1, 2, 5], [1, 3], [1]]) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      found.push(...factors.map((factor) => Number((factor * 10 ** power).toPrecision(3))));
    }
    const kept = found.filter((value) => value >= low && value <= high);
    if (kept.length <= count + 1 && kept.length) return kept;
  }
  const powers = ticks(Math.ceil(Math.log10(low)), Math.floor(Math.log10(high)), count).filter(Number.isInteger);
  return powers.length > 1 ? powers.map((power) => 10 ** power) : ticks(low, high, 4);
}
