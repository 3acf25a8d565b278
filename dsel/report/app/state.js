// What the reader chose. It lives in the address behind `#`, so a reload, a bookmark and a sent link show the same.
import { cells, data, metrics } from "./data.js";
import { compile } from "./filter.js";

const DEFAULTS = {
  filter: "",
  metric: data.metric ?? "",
  relative: "",
  order: "",
  phase: data.curves.at(-1)?.phase ?? "",
  loss: "target_loss",
  along: "step",
  seeds: "",
  shade: "",
  cost: "",
  unit: "seconds",
  sort: "",
  columns: "",
  cell: "",
};

export const state = { ...DEFAULTS, ...read() };
const listeners = [];

function read() {
  const found = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const known = Object.fromEntries(Object.entries(found).filter(([key]) => key in DEFAULTS));
  if (known.metric && !metrics.has(known.metric)) delete known.metric;
  if (known.cell && !cells.some((cell) => cell.folder === known.cell)) delete known.cell;
  return known;
}

export function change(changes) {
  Object.assign(state, changes);
  const kept = Object.entries(state).filter(([key, value]) => value !== DEFAULTS[key]);
  const hash = new URLSearchParams(kept).toString();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  listeners.forEach((listener) => listener(Object.keys(changes)));
}

export const onChange = (listener) => listeners.push(listener);

addEventListener("hashchange", () => {
  Object.assign(state, DEFAULTS, read());
  listeners.forEach((listener) => listener(Object.keys(state)));
});

export const visibleCells = () => {
  const { test } = compile(state.filter);
  return cells.filter(test);
};
export const chosenCell = () => cells.find((cell) => cell.folder === state.cell) ?? null;
export const chosenMetric = () => metrics.get(state.metric);
