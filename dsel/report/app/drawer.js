// One cell beside the views: opened by a mark, closed by Escape.
import { cellParts } from "./cell.js";
import { cells } from "./data.js";
import { find, html } from "./element.js";
import { swatch } from "./mark.js";
import { change, chosenCell, visibleCells } from "./state.js";

const drawer = html("aside", { id: "drawer", "aria-label": "Cell", tabindex: -1 });
let cameFrom = null;

export function mountDrawer() {
  find("main").after(drawer);
  showDrawer(false);
}

export function showDrawer(focus = true) {
  const cell = chosenCell();
  const wasOpen = document.body.classList.contains("drawn");
  document.body.classList.toggle("drawn", Boolean(cell));
  if (!cell) {
    drawer.replaceChildren();
    if (wasOpen && cameFrom?.isConnected) cameFrom.focus();
    return;
  }
  if (!wasOpen) cameFrom = document.activeElement;
  drawer.replaceChildren(head(cell), ...cellParts(cell));
  drawer.scrollTop = 0;
  if (focus && !wasOpen) drawer.focus({ preventScroll: true });
}

export const closeDrawer = () => change({ cell: "" });

// To the next or previous setting that the filter lets through
export function step(by) {
  const all = visibleCells();
  const at = all.findIndex((cell) => cell.folder === chosenCell()?.folder);
  if (all.length) change({ cell: all[(at + by + all.length) % all.length].folder });
}

function head(cell) {
  const seeds = cell.group.cells.map((other) =>
    html(
      "button",
      { type: "button", "aria-pressed": String(other === cell), onclick: () => change({ cell: other.folder }) },
      String(other.seed),
    ),
  );
  return html(
    "header",
    {},
    html(
      "div",
      { class: "bar" },
      html("span", { class: "kicker" }, `cell ${cell.index + 1} of ${cells.length}`),
      html("button", { type: "button", onclick: () => step(-1), "aria-label": "Previous cell" }, "\u2190"),
      html("button", { type: "button", onclick: () => step(1), "aria-label": "Next cell" }, "\u2192"),
      html("button", { type: "button", class: "close", onclick: closeDrawer, "aria-label": "Close" }, "\u00d7"),
    ),
    html("h2", {}, swatch(cell.group.series), cell.group.name),
    html("div", { class: "choice", role: "group", "aria-label": "Seed" }, html("span", {}, "seed"), ...seeds),
  );
}
