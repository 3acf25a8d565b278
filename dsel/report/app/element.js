// Elements made of names, attributes and text: nothing of the data is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg"; // a name, which nothing is fetched from

export function html(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function svg(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value == null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}

export const nothing = () => html("p", { class: "nothing" }, "No cell that the filter lets through has this.");
export const find = (selector, within = document) => within.querySelector(selector);
export const findAll = (selector, within = document) => [...within.querySelectorAll(selector)];

// A row for each of `rows` ({words, group, kind}); its first word names it. Words are text or elements; those of the first `left` columns
// stand at the left
export function tableOf(titles, rows, left = 1) {
  const column = (at) => (at < left ? "key" : null);
  const head = titles.map((words, at) => html("th", { scope: "col", class: column(at) }, words));
  const body = rows.map(({ words, group, kind }) => {
    const [name, ...rest] = words;
    const values = rest.map((word, at) => html("td", { class: column(at + 1) }, word ?? ""));
    return html("tr", { "data-group": group?.index, class: kind }, html("th", { scope: "row" }, name), ...values);
  });
  return html(
    "div",
    { class: "scroll tall" },
    html("table", {}, html("thead", {}, html("tr", {}, ...head)), html("tbody", {}, ...body)),
  );
}

export const pairsOf = (rows) =>
  html("dl", { class: "pairs" }, ...rows.map(([key, words]) => html("div", {}, html("dt", {}, key), html("dd", {}, words))));

export const folded = (words, ...children) => html("details", {}, html("summary", {}, words), ...children);
