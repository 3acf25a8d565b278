// Drawings of some experiments only, which Vega makes from a specification when they come into sight, of what the filter lets through.
import { find, findAll, html } from "./element.js";
import { visibleCells } from "./state.js";
import { visibleOf } from "./special_rows.js";

const OPTIONS = { renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } };
const figures = findAll("script.spec").map((script) => ({
  name: script.dataset.name,
  specification: () => JSON.parse(script.textContent),
  target: find(`#chart-${script.dataset.name}`),
  dirty: true,
  near: false,
  turn: 0,
  done: Promise.resolve(), // Vega draws while others go on: one drawing waits for the last
}));

export function mountSpecial() {
  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        const figure = figures.find((each) => each.target === entry.target);
        figure.near = entry.isIntersecting;
        if (figure.near) draw(figure);
      }
    },
    { rootMargin: "300px" },
  );
  figures.forEach((figure) => seen.observe(figure.target));
}

export function refreshSpecial() {
  for (const figure of figures) {
    figure.dirty = true;
    figure.target.setAttribute("aria-busy", "true");
  }
  figures.filter((figure) => figure.near).forEach(draw);
  const names = new Set(visibleCells().map((cell) => cell.group.name));
  findAll("tr[data-setting]").forEach((row) => (row.hidden = !names.has(row.dataset.setting)));
}

export const drawAllSpecial = () => figures.forEach(draw);

function draw(figure) {
  if (!figure.dirty) return;
  figure.dirty = false;
  const specification = visibleOf(figure.specification(), visibleCells());
  const turn = ++figure.turn;
  const end = () => turn === figure.turn && !figure.dirty && figure.target.setAttribute("aria-busy", "false");
  figure.done = figure.done.then(() => show(figure, specification)).then(end, console.error);
}

async function show(figure, specification) {
  figure.drawing?.finalize();
  figure.drawing = null;
  figure.target.replaceChildren(html("p", { class: "nothing" }, "No cell that the filter lets through has this."));
  if (!specification) return;
  figure.drawing = await window.vegaEmbed(figure.target, specification, { ...OPTIONS, downloadFileName: figure.name });
}
