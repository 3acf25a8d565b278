// Drawings of some experiments only, which Vega makes from a specification when they come into sight, of what the filter lets through.
import { find, findAll, nothing } from "./element.js";
import { spoil, watchSight } from "./sight.js";
import { visibleCells } from "./state.js";
import { visibleOf } from "./special_rows.js";

const OPTIONS = { renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } };
const figures = findAll("script.spec").map((script) => ({
  name: script.dataset.name,
  specification: () => JSON.parse(script.textContent),
  element: find(`#chart-${script.dataset.name}`),
  dirty: true,
  near: false,
  drawing: false, // Vega draws while others go on
  view: null,
}));

export const mountSpecial = () => watchSight(figures, draw);
export const drawAllSpecial = () => figures.forEach(draw);

export function refreshSpecial() {
  figures.forEach(spoil);
  figures.filter((figure) => figure.near).forEach(draw);
  const names = new Set(visibleCells().map((cell) => cell.group.name));
  findAll("tr[data-setting]").forEach((row) => (row.hidden = !names.has(row.dataset.setting)));
}

async function draw(figure) {
  if (!figure.dirty || figure.drawing) return; // who draws looks again at the end
  figure.drawing = true;
  while (figure.dirty) {
    figure.dirty = false;
    await show(figure).catch(console.error);
  }
  figure.drawing = false;
  figure.element.setAttribute("aria-busy", "false");
}

async function show(figure) {
  const specification = visibleOf(figure.specification(), visibleCells());
  figure.view?.finalize();
  figure.view = null;
  figure.element.replaceChildren(nothing());
  if (!specification) return;
  figure.view = await window.vegaEmbed(figure.element, specification, { ...OPTIONS, downloadFileName: figure.name });
}
