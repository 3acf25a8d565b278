// Means and spread over seeds, differences paired by seed, the Pareto front, and mean curves.
import { groups } from "./data.js";

export function summarise(values) {
  if (!values.length) return null;
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const sd = values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : null;
  return { mean, sd, n: values.length, low: Math.min(...values), high: Math.max(...values) };
}

// From one standard deviation below the mean to one above
export const interval = (row) => [row.mean - (row.sd ?? 0), row.mean + (row.sd ?? 0)];

// All that is drawn of such rows
export const drawnValues = (rows) => rows.flatMap((row) => [...row.points.map((point) => point.value), ...interval(row)]);

// In the order of the table: a row for each group that has values, with `points` (cell, value)
export function byGroup(cells, valueOf) {
  const points = new Map();
  for (const cell of cells) {
    const value = valueOf(cell);
    if (value == null) continue;
    if (!points.has(cell.group)) points.set(cell.group, []);
    points.get(cell.group).push({ cell, value });
  }
  return [...points]
    .sort(([a], [b]) => a.index - b.index)
    .map(([group, own]) => ({ group, points: own, ...summarise(own.map((point) => point.value)) }));
}

// The cell's value minus that of the baseline's cell with the same seed; null without one
export function difference(cell, valueOf) {
  const partner = cell.group.partner == null ? null : groups[cell.group.partner];
  const base = partner?.cells.find((other) => other.seed === cell.seed);
  const [ours, theirs] = [valueOf(cell), base ? valueOf(base) : null];
  return ours == null || theirs == null ? null : ours - theirs;
}

// Of points {x, y}: those that no other one beats in both. Less x is better; `sign` is 1 where less y is better, else -1
export function paretoFront(points, sign) {
  const order = [...points].sort((a, b) => a.x - b.x || sign * (a.y - b.y));
  let best = Infinity;
  return order.filter((point) => sign * point.y < best && ((best = sign * point.y), true));
}

// The mean of curves {xs, ys} on the points that all of them have: a mean over changing seeds jumps where nothing happened
export function meanCurve(curves) {
  const found = new Map();
  for (const { steps, xs, ys } of curves) {
    ys.forEach((y, at) => {
      if (y == null) return;
      if (!found.has(steps[at])) found.set(steps[at], { xs: [], ys: [] });
      found.get(steps[at]).xs.push(xs[at]);
      found.get(steps[at]).ys.push(y);
    });
  }
  const shared = [...found.values()].filter((point) => point.ys.length === curves.length);
  return shared.map((point) => ({ x: summarise(point.xs).mean, ...summarise(point.ys) })).sort((a, b) => a.x - b.x);
}

export function ranks(values) {
  const order = values.map((value, at) => [value, at]).sort((a, b) => a[0] - b[0]);
  const found = [];
  order.forEach(([, at], rank) => (found[at] = rank + 1));
  return found;
}
