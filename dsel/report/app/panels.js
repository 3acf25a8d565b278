// Small drawings side by side, one for each setting: as many as one screen shows, and a word on the others.
import { html } from "./element.js";
import { plural } from "./format.js";
import { swatch } from "./mark.js";
import { change, chosenCell } from "./state.js";

const SHOWN = 6;

// The rows that are drawn. The setting of the chosen cell stands first, then one of each series
export function firstRows(rows) {
  const group = chosenCell()?.group;
  const seen = new Set();
  const again = rows.map((row) => seen.has(row.group.series) || !seen.add(row.group.series));
  const weight = (row) => (row.group === group ? -1 : Number(again[rows.indexOf(row)]));
  return [...rows].sort((a, b) => weight(a) - weight(b)).slice(0, SHOWN);
}

// Those of `rows` that are `shown`, each at least so wide and drawn by `draw(width, row)`
export function panels(width, rows, shown, least, draw) {
  const columns = Math.max(1, Math.min(shown.length, Math.floor(width / least)));
  const each = Math.floor((width - 20 * (columns - 1)) / columns);
  return [
    html("div", { class: "panels", style: `--columns: ${columns}` }, ...shown.map((row) => draw(each, row))),
    rows.length > shown.length
      ? html("p", { class: "note" }, `${shown.length} of ${plural(rows.length, "setting")}: filter, or click a setting, to see others.`)
      : null,
  ];
}

// A drawing under the name of its setting, which opens the cell
export function panel(cell, words, chart) {
  const open = () => change({ cell: cell.folder });
  const name = html("button", { type: "button", class: "link", onclick: open }, swatch(cell.group.series), cell.group.name);
  return html("figure", { class: "panel", "data-group": cell.group.index }, html("figcaption", {}, name, html("small", {}, words)), chart);
}
