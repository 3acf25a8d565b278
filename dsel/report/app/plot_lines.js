// One metric against the number that the sweep varied: a line for each series, bars of one standard deviation, and the seeds.
import { data } from "./data.js";
import { svg } from "./element.js";
import { fixed, percent, short } from "./format.js";
import { drawing, line, path, xAxis, yAxis } from "./frame.js";
import { glyph, mark } from "./mark.js";
import { fitted, linear, logarithmic, padded, paddedLog, spansDecades } from "./scale.js";
import { noteOf } from "./plot_rows.js";
import { drawnValues, interval } from "./statistics.js";

export const canPlotLines = (rows) => data.x?.levels.length > 1 && rows.some((row) => row.group.x != null);

export function plotLines(width, rows, metric, title, { relative = false, small = false } = {}) {
  const height = small ? 150 : Math.min(420, Math.max(300, width * 0.5));
  const area = { left: small ? 46 : 58, right: width - 14, top: small ? 12 : 34, bottom: height - (small ? 24 : 46) };
  const fraction = data.x.key.endsWith("fraction") && Math.max(...data.x.levels) <= 1;
  const wide = fraction ? data.x.levels.every((level) => level > 0) : spansDecades(data.x.levels);
  const [scale, domain] = wide ? [logarithmic, paddedLog(data.x.levels, 0.08)] : [linear, padded(data.x.levels, 0.08)];
  const x = scale(domain, [area.left, area.right]);
  const values = drawnValues(rows);
  const means = rows.map((row) => row.mean);
  const y = fitted(relative ? [...means, 0] : means, relative ? [...values, 0] : values, [area.bottom, area.top]);
  const shown = (row) => row.group.x != null;
  const series = [...new Set(rows.map((row) => row.group.series))];
  const parts = series.map((each) =>
    drawSeries(
      each,
      rows.filter((row) => row.group.series === each && shown(row)),
      x,
      y,
      metric,
      relative,
      small,
    ),
  );
  const flat = rows.filter((row) => !shown(row)).map((row) => drawLevel(row, area, y, metric, relative));
  const zero = relative ? line(area.left, y(0), area.right, y(0), { class: "zero" }) : null;
  const xOptions = { values: data.x.levels, write: fraction ? percent : short };
  const axes = [yAxis(y, area, small ? "" : title, small ? { count: 3 } : {}), xAxis(x, area, small ? "" : data.x.title, xOptions)];
  return drawing(width, height, `${metric.title} against ${data.x.title}`, ...axes, zero, ...flat, ...parts);
}

function drawSeries(series, rows, x, y, metric, relative, small) {
  const points = rows.map((row) => [x(row.group.x), y(row.mean)]);
  const marks = rows.map((row) => {
    const at = x(row.group.x);
    const seeds = small
      ? []
      : row.points.map(({ cell, value }) =>
          mark(
            cell,
            [`${row.group.name}, seed ${cell.seed}`, `${metric.title}: ${fixed(value, metric.decimals, relative)}`],
            { stop: false, class: "seed" },
            svg("circle", { cx: at, cy: y(value), r: 2.4, class: series.colour }),
          ),
        );
    const [low, high] = interval(row).map(y);
    const bar = line(at, low, at, high, { class: "spread" });
    const main = mark(
      row.points[0].cell,
      noteOf(row, metric, relative),
      { class: series.colour },
      svg("circle", { cx: at, cy: y(row.mean), r: 10, class: "reach" }),
      bar,
      glyph(series, at, y(row.mean)),
    );
    return svg("g", {}, main, ...seeds);
  });
  return svg("g", {}, svg("path", { d: path(points), class: `line ${series.colour}` }), ...marks);
}

// A baseline that has no x is a level to compare with
function drawLevel(row, area, y, metric, relative) {
  const at = y(row.mean);
  return mark(
    row.points[0].cell,
    noteOf(row, metric, relative),
    { class: row.group.series.colour },
    line(area.left, at, area.right, at, { class: "level" }),
    glyph(row.group.series, area.right - 6, at),
  );
}
