// What all drawings share: a frame with axes, grid and titles.
import { find, findAll, svg } from "./element.js";
import { alike } from "./format.js";
import { reachable } from "./mark.js";

const DENSE = 24; // of more settings, spreads are shown under the pointer only

export function drawing(width, height, label, ...children) {
  const known = { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": label };
  const node = reachable(svg("svg", known, ...children));
  node.classList.toggle("dense", findAll(".stop", node).length > DENSE && !find(".reach.row", node));
  return node;
}

export const text = (x, y, words, attributes) => svg("text", { x, y, ...attributes }, words);
export const line = (x1, y1, x2, y2, attributes) => svg("line", { x1, y1, x2, y2, ...attributes });

export function xAxis(scale, { left, right, top, bottom }, title, options = {}) {
  const { values, grid = false, count } = options;
  const at = values ?? scale.ticks(count ?? Math.max(3, Math.floor((right - left) / 80)));
  const write = options.write ?? alike(at);
  const parts = spaced(at, scale, write).map((value) =>
    svg(
      "g",
      {},
      grid
        ? line(scale(value), top, scale(value), bottom, { class: "grid" })
        : line(scale(value), bottom, scale(value), bottom + 4, { class: "tick" }),
      text(scale(value), bottom + 17, write(value), { "text-anchor": "middle" }),
    ),
  );
  const base = grid ? null : line(left, bottom, right, bottom, { class: "base" });
  const half = title.length * 3.2;
  const middle = Math.max(half, Math.min((left + right) / 2, right + 14 - half));
  return svg(
    "g",
    { class: "axis", "aria-hidden": "true" },
    base,
    ...parts,
    text(middle, bottom + 36, title, { class: "title", "text-anchor": "middle" }),
  );
}

// Without those whose words would touch the ones before
function spaced(values, scale, write) {
  let end = -Infinity;
  return values.filter((value) => {
    const half = write(value).length * 3.4 + 4;
    if (scale(value) - half < end) return false;
    end = scale(value) + half;
    return true;
  });
}

export function yAxis(scale, { left, right, top, bottom }, title, options = {}) {
  const at = scale.ticks(options.count ?? Math.max(3, Math.floor((bottom - top) / 45)));
  const write = options.write ?? alike(at);
  const parts = at.map((value) =>
    svg(
      "g",
      {},
      line(left, scale(value), right, scale(value), { class: "grid" }),
      text(left - 8, scale(value) + 4, write(value), { "text-anchor": "end" }),
    ),
  );
  return svg(
    "g",
    { class: "axis", "aria-hidden": "true" },
    ...parts,
    text(Math.max(2, Math.min(left, right - title.length * 6.4)), top - 14, title, { class: "title" }),
  );
}

// Room for names at the left of rows, within a share of the width
export const nameRoom = (names, width) =>
  Math.min(Math.max(...names.map((name) => name.length)) * 6.9 + 22, Math.max(110, width * 0.4));

// Words cut to a width in pixels, at about 6.6 a letter, in the middle: names of settings differ at their ends
export function cut(words, width, letter = 6.6) {
  const most = Math.max(3, Math.floor(width / letter));
  const end = Math.floor((most - 1) * 0.45);
  return words.length > most ? `${words.slice(0, most - 1 - end)}\u2026${words.slice(words.length - end)}` : words;
}

export const path = (points) => points.map(([x, y], at) => `${at ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
