// Marks that stand for a group or a cell: they show a note under the pointer, light up in all views, and are reached by keys.
import { svg, html, find, findAll } from "./element.js";
import { change, chosenCell } from "./state.js";

const SHAPES = {
  circle: () => svg("circle", { r: 4.6 }),
  square: () => svg("rect", { x: -4, y: -4, width: 8, height: 8 }),
  "triangle-up": () => svg("path", { d: "M0-5.2 5 4H-5Z" }),
  "triangle-down": () => svg("path", { d: "M0 5.2 5-4H-5Z" }),
  "triangle-right": () => svg("path", { d: "M5.2 0-4 5V-5Z" }),
  "triangle-left": () => svg("path", { d: "M-5.2 0 4 5V-5Z" }),
  diamond: () => svg("path", { d: "M0-5.8 5 0 0 5.8-5 0Z" }),
  cross: () => svg("path", { d: "M-1.9-5H1.9V-1.9H5V1.9H1.9V5H-1.9V1.9H-5V-1.9H-1.9Z" }),
};

const notes = new WeakMap();

export const glyph = (series, x = 0, y = 0) =>
  svg("g", { transform: `translate(${x},${y})`, class: `glyph ${series.colour}` }, SHAPES[series.shape]());

export const swatch = (series) =>
  svg("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" }, glyph(series));

// What a click or a key opens: a cell. `lines` is the note; the first one is its title. A `stop` is reached by arrow keys
export function mark(cell, lines, attributes, ...children) {
  const { stop = true, ...rest } = attributes;
  const classes = `mark ${stop ? "stop" : ""} ${rest.class ?? ""}`;
  const known = {
    "data-group": cell.group.index,
    "data-cell": cell.index,
    role: stop ? "button" : null,
    tabindex: stop ? -1 : null,
  };
  const node = svg("g", { ...rest, ...known, class: classes, "aria-label": stop ? lines.join(", ") : null }, ...children);
  notes.set(node, { lines, cell });
  return node;
}

// A note for something that opens nothing
export function noted(node, lines) {
  notes.set(node, { lines });
  node.classList.add("noted");
  return node;
}

const tip = html("div", { class: "tip", role: "status" });

// What the pointer is on; of marks that lie upon each other the nearest
function nodeOf({ target, clientX, clientY }) {
  const under = document.elementsFromPoint(clientX, clientY).map((node) => node.closest(".mark"));
  const marks = [...new Set(under.filter(Boolean))];
  if (marks.length < 2 || marks.some((node) => node.matches(".curve"))) return target.closest?.(".mark, .noted, [data-group]");
  const far = (node) => {
    const box = (find(".glyph", node) ?? node).getBoundingClientRect();
    return Math.hypot(box.x + box.width / 2 - clientX, box.y + box.height / 2 - clientY);
  };
  return marks.reduce((best, node) => (far(node) < far(best) ? node : best));
}

function show(node, x, y) {
  const note = notes.get(node);
  light(note?.cell?.group.index ?? node.dataset.group);
  tip.classList.toggle("on", Boolean(note));
  if (!note) return;
  tip.replaceChildren(...note.lines.map((line, at) => html(at ? "div" : "b", {}, line)));
  const left = Math.min(x + 14, innerWidth - tip.offsetWidth - 8);
  const top = y + 18 + tip.offsetHeight > innerHeight ? y - tip.offsetHeight - 12 : y + 18;
  tip.style.transform = `translate(${Math.max(8, left)}px, ${Math.max(8, top)}px)`;
}

function hide() {
  tip.classList.remove("on");
  light(null);
}

let lit = null;
function light(group) {
  if (String(group) === String(lit)) return;
  findAll(".hot").forEach((node) => node.classList.remove("hot"));
  lit = group;
  document.body.classList.toggle("hovering", group != null);
  if (group != null) findAll(`[data-group="${group}"]`).forEach((node) => node.classList.add("hot"));
}

export function showChosen() {
  const cell = chosenCell();
  findAll(".chosen").forEach((node) => node.classList.remove("chosen"));
  if (cell) findAll(`[data-group="${cell.group.index}"]`).forEach((node) => node.classList.add("chosen"));
}

function move(event, node) {
  const stops = findAll(".stop", node.closest("svg"));
  const at = stops.indexOf(node);
  const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: stops.length - 1 }[
    event.key
  ];
  if (to === undefined) return;
  event.preventDefault();
  focusStop(stops, Math.min(Math.max(to, 0), stops.length - 1));
}

function focusStop(stops, at) {
  stops.forEach((stop, place) => stop.setAttribute("tabindex", place === at ? 0 : -1));
  stops[at].focus();
}

// The first mark of a drawing is where the tab key stops
export function reachable(drawing) {
  find(".stop", drawing)?.setAttribute("tabindex", 0);
  return drawing;
}

export function listen() {
  document.body.append(tip);
  document.addEventListener("pointermove", (event) => {
    const node = nodeOf(event);
    if (node) show(node, event.clientX, event.clientY);
    else hide();
  });
  document.addEventListener("pointerleave", hide);
  addEventListener("scroll", hide, { passive: true });
  document.addEventListener("click", (event) => {
    const cell = notes.get(nodeOf(event))?.cell;
    if (cell) change({ cell: cell.folder });
  });
  document.addEventListener("focusin", (event) => {
    const node = event.target.closest?.(".stop");
    if (!node?.matches(":focus-visible")) return;
    const box = node.getBoundingClientRect();
    show(node, box.right - 8, box.bottom - 12);
  });
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", (event) => {
    const node = event.target.closest?.(".stop");
    if (!node) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      change({ cell: notes.get(node).cell.folder });
    } else move(event, node);
  });
}
