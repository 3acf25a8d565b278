// What every setting cost, by phase; faint where another cell had spent it already.
import { choice } from "./control.js";
import { data, metrics, valueOf } from "./data.js";
import { folded, html, svg, tableOf } from "./element.js";
import { short } from "./format.js";
import { cut, drawing, nameRoom, text, xAxis } from "./frame.js";
import { mark } from "./mark.js";
import { linear } from "./scale.js";
import { state } from "./state.js";
import { byGroup } from "./statistics.js";

const UNITS = [
  ["seconds", "seconds"],
  ["flops", "FLOPs"],
  ["tokens", "tokens"],
];
const COLOURS = ["c5", "c4", "c3", "c0", "c2", "c1", "c7", "c6", "g1"];
const units = () => UNITS.filter(([unit]) => data.phases.some((phase) => phase[unit]));
const unitOf = () => (units().some(([unit]) => unit === state.unit) ? state.unit : units()[0][0]);
const TABLE = ["seconds", "tokens", "optimizer_steps", "scoring_passes", "flops", "peak_memory_mb"];

export const costsView = {
  id: "costs",
  title: "Cost by phase",
  uses: ["unit"],
  available: () => units().length > 0,
  controls: () => [choice("Unit", "unit", units(), undefined, unitOf())],
  draw(width, cells) {
    const rows = rowsOf(cells);
    if (!rows.length) return null;
    return html("div", {}, legend(rows), chart(width, rows), table(cells));
  },
  note: () =>
    "Means over seeds. Faint: the phase was computed once for several cells, and this one found it on disk; " +
    "it counts as if it had not.",
};

function rowsOf(cells) {
  const found = new Map();
  for (const cell of cells) {
    if (!found.has(cell.group)) found.set(cell.group, []);
    found.get(cell.group).push(cell);
  }
  const rows = [...found]
    .sort(([a], [b]) => a.index - b.index)
    .map(([group, own]) => ({ group, cell: own[0], parts: partsOf(own) }));
  return rows
    .filter((row) => row.parts.length)
    .map((row) => ({ ...row, sum: row.parts.reduce((sum, part) => sum + part.value, 0) }));
}

function partsOf(cells) {
  const found = [];
  data.phases.forEach((phase, place) => {
    for (const reused of [0, 1]) {
      const own = cells.filter((cell) => phase.reused[cell.index] === reused);
      const value = own.reduce((sum, cell) => sum + (phase[unitOf()]?.[cell.index] ?? 0), 0) / cells.length;
      if (value) found.push({ place, name: phase.name, reused, value });
    }
  });
  return found;
}

function legend(rows) {
  const places = [...new Set(rows.flatMap((row) => row.parts.map((part) => part.place)))].sort((a, b) => a - b);
  const box = (place) =>
    svg("svg", { width: 12, height: 12 }, svg("rect", { width: 12, height: 12, class: COLOURS[place % COLOURS.length] }));
  return html("div", { class: "legend" }, ...places.map((place) => html("span", {}, box(place), data.phases[place].name)));
}

function chart(width, rows) {
  const step = rows.length > 40 ? 17 : 25;
  const area = {
    left: nameRoom(
      rows.map((row) => row.group.name),
      width,
    ),
    right: width - 70,
    top: 4,
    bottom: 4 + step * rows.length,
  };
  const most = rows.reduce((high, row) => Math.max(high, row.sum), 0);
  const x = linear([0, most], [area.left, area.right]);
  const bars = rows.map((row, at) => drawRow(row, area.top + step * at, step, x, area));
  const title = units().find(([unit]) => unit === unitOf())[1];
  return drawing(width, area.bottom + 46, "Cost of each setting by phase", xAxis(x, area, title, { grid: true }), ...bars);
}

function drawRow(row, top, step, x, area) {
  let from = 0;
  const parts = row.parts.map((part) => {
    const [left, right] = [x(from), x((from += part.value))];
    return svg("rect", {
      x: left,
      y: top + 4,
      width: Math.max(right - left, 0.6),
      height: step - 8,
      class: `${COLOURS[part.place % COLOURS.length]} ${part.reused ? "reused" : ""}`,
    });
  });
  const lines = row.parts.map((part) => `${part.name}: ${short(part.value)}${part.reused ? " (reused)" : ""}`);
  return mark(
    row.cell,
    [row.group.name, ...lines],
    { class: "costs" },
    svg("rect", { x: 0, y: top, width: area.right + 60, height: step, class: "reach row" }),
    text(area.left - 8, top + step / 2 + 4, cut(row.group.name, area.left - 12), { "text-anchor": "end", class: "name" }),
    ...parts,
    text(x(row.sum) + 8, top + step / 2 + 4, short(row.sum), { class: "name quiet" }),
  );
}

function table(cells) {
  const known = TABLE.map((name) => metrics.get(`cost.${name}`)).filter(Boolean);
  if (!known.length) return null;
  const means = known.map((metric) => new Map(byGroup(cells, (cell) => valueOf(cell, metric)).map((row) => [row.group, row.mean])));
  const groups = [...new Set(cells.map((cell) => cell.group))].sort((a, b) => a.index - b.index);
  const rows = groups.map((group) => ({ group, words: [group.name, ...means.map((own) => short(own.get(group)))] }));
  return folded("Cost of each setting (mean over seeds)", tableOf(["setting", ...known.map((metric) => metric.title)], rows));
}
