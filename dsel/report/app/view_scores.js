// Histograms of scores: the pool, the planted documents and the selected ones, each as shares of its own number.
import { data, selected } from "./data.js";
import { svg, html } from "./element.js";
import { percent } from "./format.js";
import { drawing, xAxis, yAxis } from "./frame.js";
import { noted } from "./mark.js";
import { firstRows, panel, panels } from "./panels.js";
import { linear } from "./scale.js";
import { chosenCell } from "./state.js";

const COLOURS = { pool: "g0", planted: "c1", positive: "c1", selected: "c0" };

export const scoresView = {
  id: "scores",
  title: "Scores",
  uses: ["cell"],
  available: () => data.selected.some((row) => row.histogram),
  controls: () => [],
  draw(width, cells) {
    const found = onePerGroup(cells.filter((cell) => selected.get(cell.index)?.histogram));
    if (!found.length) return null;
    const shown = firstRows(found);
    return html("div", {}, legend(shown), ...panels(width, found, shown, 340, histogram));
  },
  note: () => "Larger scores are kept first. One seed of each setting: that of the chosen cell, or the first.",
};

function onePerGroup(cells) {
  const found = new Map();
  for (const cell of cells) if (!found.has(cell.group) || cell === chosenCell()) found.set(cell.group, cell);
  return [...found.values()].sort((a, b) => a.group.index - b.group.index);
}

const kindsOf = (cell) => Object.keys(COLOURS).filter((kind) => selected.get(cell.index).histogram[kind]);

function legend(cells) {
  const kinds = Object.keys(COLOURS).filter((kind) => cells.some((cell) => kindsOf(cell).includes(kind)));
  const box = (kind) =>
    svg("svg", { width: 12, height: 12 }, svg("rect", { width: 12, height: 12, class: `bar ${COLOURS[kind]}` }));
  return html("div", { class: "legend" }, ...kinds.map((kind) => html("span", {}, box(kind), kind)));
}

function histogram(width, cell) {
  const { edges, ...counts } = selected.get(cell.index).histogram;
  const area = { left: 46, right: width - 8, top: 10, bottom: 150 };
  const shares = kindsOf(cell).map((kind) => ({ kind, values: shareOf(counts[kind]) }));
  const x = linear([edges[0], edges.at(-1)], [area.left, area.right]);
  const y = linear([0, Math.max(...shares.flatMap((each) => each.values)) * 1.04], [area.bottom, area.top]);
  const bars = shares.map(({ kind, values }) =>
    svg("g", {}, ...values.map((share, at) => (share ? bar(kind, share, edges, at, x, y) : null))),
  );
  const axes = [yAxis(y, area, "", { count: 3, write: percent }), xAxis(x, area, "", { count: 4 })];
  const chart = drawing(width, 174, `Scores of ${cell.group.name}, seed ${cell.seed}`, ...axes, ...bars);
  return panel(cell, `seed ${cell.seed}`, chart);
}

function shareOf(counts) {
  const sum = counts.reduce((total, count) => total + count, 0) || 1;
  return counts.map((count) => count / sum);
}

function bar(kind, share, edges, at, x, y) {
  const [left, right] = [x(edges[at]), x(edges[at + 1])];
  const node = svg("rect", {
    x: left,
    y: y(share),
    width: Math.max(right - left - 0.6, 0.8),
    height: y(0) - y(share),
    class: `bar ${COLOURS[kind]}`,
  });
  return noted(node, [kind, `score ${edges[at]} to ${edges[at + 1]}`, percent(share)]);
}
