// Where mean curves cross: pairs of settings of which the later winner first lies behind.
import { data } from "./data.js";
import { html, tableOf } from "./element.js";
import { fixed } from "./format.js";

const MOST = 60;
const TITLES = ["ends lower", "ends higher", "they cross at step", "gap at the end (nats/token)", "seeds that agree"];

export const crossingsView = {
  id: "crossings",
  title: "Where mean curves cross",
  uses: [],
  available: () => data.crossings.length > 0,
  controls: () => [],
  draw(width, cells) {
    const names = new Set(cells.map((cell) => cell.group.name));
    const rows = data.crossings.filter((each) => names.has(each.first) && names.has(each.second));
    if (!rows.length) return null;
    const more = rows.length > MOST ? html("p", { class: "note" }, `The first ${MOST} of ${rows.length} pairs.`) : null;
    return html("div", {}, tableOf(TITLES, rows.slice(0, MOST).map(row), 2), more);
  },
  note: () =>
    "While training on the selection, over all seeds: the last crossing of each pair that differs in one thing. " +
    "A pair on which the seeds disagree crosses within the noise.",
};

function row(each) {
  const step = Math.round(each.step).toLocaleString("en-US");
  return { words: [each.first, each.second, step, fixed(each.gap, 3), `${each.seeds}/${each.n}`] };
}
