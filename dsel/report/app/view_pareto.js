// Quality against what it cost: settings that no other one beats in both stand on the front.
import { list } from "./control.js";
import { metrics, valueOf } from "./data.js";
import { svg } from "./element.js";
import { short, spread } from "./format.js";
import { cut, drawing, path, text, xAxis, yAxis } from "./frame.js";
import { glyph, mark } from "./mark.js";
import { fitted, linear, logarithmic, padded, paddedLog, spansDecades } from "./scale.js";
import { chosenMetric, state } from "./state.js";
import { byGroup, interval, paretoFront } from "./statistics.js";
import { betterOf, titleOf } from "./view_result.js";

const FIRST = ["cost.chosen_flops", "cost.chosen_seconds", "cost.flops", "cost.seconds", "cost.tokens"];
const costs = [...metrics.values()].filter(
  (metric) => metric.key.startsWith("cost.") && new Set(metric.values.filter((value) => value != null)).size > 1,
);
const costOf = () =>
  costs.find((metric) => metric.key === state.cost) ??
  FIRST.map((key) => costs.find((metric) => metric.key === key)).find(Boolean) ??
  costs[0];

export const paretoView = {
  id: "pareto",
  title: "Quality and cost",
  uses: ["metric", "cost"],
  available: () => Boolean(chosenMetric()?.better && costOf() && !state.metric.startsWith("cost.")),
  controls: () => [
    list(
      "cost",
      "cost",
      costs.map((metric) => [metric.key, metric.title]),
      costOf().key,
    ),
  ],
  draw(width, cells) {
    const [metric, cost] = [chosenMetric(), costOf()];
    const spent = new Map(byGroup(cells, (cell) => valueOf(cell, cost)).map((row) => [row.group, row]));
    const rows = byGroup(cells, (cell) => valueOf(cell, metric)).filter((row) => spent.has(row.group));
    if (!rows.length) return null;
    return draw(
      width,
      rows.map((row) => ({ row, cost: spent.get(row.group), x: spent.get(row.group).mean, y: row.mean })),
      metric,
      cost,
    );
  },
  note: () =>
    betterOf(chosenMetric()) +
    "The stepped line is the Pareto front (arXiv 2410.16208): " +
    "each setting on it gives the best quality that was had for its cost or less. Means over seeds; bars: one standard deviation.",
};

function draw(width, points, metric, cost) {
  const height = Math.min(420, Math.max(300, width * 0.62));
  const area = { left: 58, right: width - 16, top: 34, bottom: height - 46 };
  const xs = points.map((point) => point.x);
  const wide = spansDecades(xs);
  const x = wide ? logarithmic(paddedLog(xs), [area.left, area.right]) : linear(padded(xs), [area.left, area.right]);
  const bars = points.flatMap(({ row }) => interval(row));
  const means = points.map((point) => point.y);
  const y = fitted(means, bars, [area.bottom, area.top]);
  const front = paretoFront(points, metric.better === "low" ? 1 : -1);
  const steps = front.flatMap((point, at) =>
    at
      ? [
          [x(point.x), y(front[at - 1].y)],
          [x(point.x), y(point.y)],
        ]
      : [[x(point.x), y(point.y)]],
  );
  if (front.length) steps.push([area.right, y(front.at(-1).y)]);
  const names = namesOf(front, x, y, area);
  const marks = points.map((point) => drawPoint(point, front.includes(point), x, y, metric, cost));
  const axes = [yAxis(y, area, titleOf(metric)), xAxis(x, area, cost.title)];
  return drawing(
    width,
    height,
    `${metric.title} against ${cost.title}`,
    ...axes,
    svg("path", { d: path(steps), class: "front" }),
    ...marks,
    ...names,
  );
}

// Of settings on the front, where they lie upon no other name
function namesOf(front, x, y, area) {
  const placed = [];
  for (const { row, x: cost, y: value } of front) {
    const [left, top, long] = [x(cost), y(value) - 9, row.group.name.length * 6.4 + 10];
    const fits = left + long < area.right;
    const from = fits ? left : left - long;
    if (placed.some((other) => Math.abs(other.top - top) < 13 && from < other.from + other.long && other.from < from + long))
      continue;
    const words = cut(row.group.name, (fits ? area.right - left : left - area.left) - 10);
    const node = text(left + (fits ? 9 : -9), top, words, { class: "quiet halo", "text-anchor": fits ? "start" : "end" });
    placed.push({ from, top, long, node });
  }
  return placed.map((each) => each.node);
}

function drawPoint({ row, cost: spent, x: at, y: value }, onFront, x, y, metric, cost) {
  const [low, high] = interval(row);
  const note = [
    row.group.name,
    `${metric.title}: ${spread(row, metric.decimals)}`,
    `${cost.title}: ${short(spent.mean)}`,
    onFront ? "on the Pareto front" : "another one is better and costs no more",
  ];
  return mark(
    row.points[0].cell,
    note,
    { class: `${row.group.series.colour} ${onFront ? "" : "beaten"}` },
    svg("circle", { cx: x(at), cy: y(value), r: 10, class: "reach" }),
    svg("line", { x1: x(at), x2: x(at), y1: y(low), y2: y(high), class: "spread" }),
    glyph(row.group.series, x(at), y(value)),
  );
}
