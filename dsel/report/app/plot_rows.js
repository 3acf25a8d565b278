// One metric, a row for each setting: its seeds (small), mean and standard deviation.
import { svg } from "./element.js";
import { fixed, spread } from "./format.js";
import { cut, drawing, line, nameRoom, text, xAxis } from "./frame.js";
import { glyph, mark } from "./mark.js";
import { fitted } from "./scale.js";
import { drawnValues, interval } from "./statistics.js";

export const noteOf = (row, metric, relative) => [
  row.group.name,
  `${metric.title}${relative ? " (difference)" : ""}: ${spread(row, metric.decimals, relative)}`,
  row.n > 1
    ? `${row.n} seeds, ${fixed(row.low, metric.decimals, relative)} to ${fixed(row.high, metric.decimals, relative)}`
    : "one seed",
];

export function plotRows(width, rows, metric, title, { relative = false, small = false } = {}) {
  const step = small ? 13 : rows.length > 40 ? 19 : 27;
  const left = small
    ? 8
    : nameRoom(
        rows.map((row) => row.group.name),
        width,
      );
  const area = { left, right: width - 14, top: small ? 6 : 10, bottom: (small ? 6 : 10) + step * rows.length };
  const values = drawnValues(rows);
  const means = rows.map((row) => row.mean);
  const x = fitted(relative ? [...means, 0] : means, relative ? [...values, 0] : values, [left + 6, area.right]);
  const parts = rows.map((row, at) => drawRow(row, area.top + step * (at + 0.5), x, area, metric, { relative, small }));
  const zero = relative ? line(x(0), area.top, x(0), area.bottom, { class: "zero" }) : null;
  const axis = xAxis(x, area, small ? "" : title, { grid: true, count: small ? 3 : undefined });
  return drawing(width, area.bottom + (small ? 24 : 46), `${metric.title}, a row for each setting`, axis, zero, ...parts);
}

function drawRow(row, y, x, area, metric, { relative, small }) {
  const { group } = row;
  const [low, high] = interval(row).map(x);
  const name = small ? null : text(area.left - 8, y + 4, cut(group.name, area.left - 12), { "text-anchor": "end", class: "name" });
  const seeds = row.points.map(({ cell, value }) =>
    mark(
      cell,
      [`${group.name}, seed ${cell.seed}`, `${metric.title}: ${fixed(value, metric.decimals, relative)}`],
      { stop: false, class: "seed" },
      svg("circle", { cx: x(value), cy: y, r: small ? 1.8 : 2.6, class: group.series.colour }),
    ),
  );
  const main = mark(
    row.points[0].cell,
    noteOf(row, metric, relative),
    { class: group.series.colour },
    svg("rect", { x: small ? 0 : 4, y: y - 9, width: area.right - 4, height: small ? 13 : 18, class: "reach row" }),
    name,
    line(low, y, high, y, { class: "spread" }),
    glyph(group.series, x(row.mean), y),
  );
  return svg("g", {}, main, ...seeds);
}
