// Where a selection comes from: the pool's domains at the left, the selection's at the right, each as shares of its own documents.
import { data, selected } from "./data.js";
import { folded, html, svg, tableOf } from "./element.js";
import { percent, plural } from "./format.js";
import { cut, drawing, text } from "./frame.js";
import { noted } from "./mark.js";
import { firstRows, panel, panels } from "./panels.js";

const COLUMNS = 12; // domains of the table
const FEW = 0.006; // of both pool and selection: such domains are drawn as one

export const flowView = {
  id: "flow",
  title: "From pool to selection",
  uses: ["cell"],
  available: () => data.selected.some((row) => row.domains),
  controls: () => [],
  draw(width, cells) {
    const found = flowsOf(cells);
    if (!found.length) return null;
    return html("div", {}, ...panels(width, found, firstRows(found), 400, flowPanel), sharesOf(found), lengths(found));
  },
  note: () =>
    "A ribbon that widens is a domain that the selection takes more of than the pool has. " +
    "Numbers at the right: its share of the selection, and how many times its share of the pool that is. Means over seeds.",
};

function flowsOf(cells) {
  const found = new Map();
  for (const cell of cells) {
    const row = selected.get(cell.index);
    if (!row?.domains) continue;
    if (!found.has(cell.group)) found.set(cell.group, { group: cell.group, cell, rows: [] });
    found.get(cell.group).rows.push(row);
  }
  return [...found.values()]
    .sort((a, b) => a.group.index - b.group.index)
    .map(meanFlow)
    .filter((flow) => flow.taken);
}

// Shares are means over seeds; a domain that is absent in a seed counts as 0 there
function meanFlow({ group, cell, rows }) {
  const shares = new Map();
  let [size, taken] = [0, 0];
  for (const row of rows) {
    const [pool, chosen] = [1, 2].map((place) => row.domains.reduce((sum, entry) => sum + entry[place], 0));
    [size, taken] = [size + pool / rows.length, taken + chosen / rows.length];
    for (const [domain, inPool, inSelection] of row.domains) {
      const own = shares.get(domain) ?? { domain, pool: 0, chosen: 0 };
      shares.set(domain, own);
      own.pool += inPool / (pool || 1) / rows.length;
      own.chosen += inSelection / (chosen || 1) / rows.length;
    }
  }
  const each = [...shares.values()].sort((a, b) => a.domain - b.domain);
  const [large, small] = [each.filter((own) => !isSmall(own)), each.filter(isSmall)];
  const rest = small.reduce((sum, own) => ({ ...sum, pool: sum.pool + own.pool, chosen: sum.chosen + own.chosen }), {
    domain: -1,
    pool: 0,
    chosen: 0,
    count: small.length,
  });
  const length = rows.map((row) => row.length).filter(Boolean);
  return { group, cell, size, taken, domains: rest.count > 1 ? [...large, rest] : each, length };
}

const isSmall = (own) => own.pool < FEW && own.chosen < FEW;
const nameOf = (own) => (own.domain < 0 ? `${own.count} small domains` : data.domains[own.domain] || "(none)");
const colourOf = (own) => (own.domain >= 0 && own.domain < 8 ? `c${own.domain}` : "g0");

function flowPanel(width, flow) {
  const [top, height, gap] = [8, Math.max(250, flow.domains.length * 15), 3];
  const room = height - gap * (flow.domains.length - 1);
  const [left, right] = [Math.min(130, width * 0.32), width - 96];
  let [from, to] = [top, top];
  const flows = flow.domains.map((own) => {
    const placed = { own, from, to, pool: own.pool * room, chosen: own.chosen * room };
    from += placed.pool + gap;
    to += placed.chosen + gap;
    return placed;
  });
  const ribbons = flows.map((each) => ribbon(each, left, right));
  const names = spread(flows, (each) => each.from + each.pool / 2, top, height).map(([each, y]) =>
    text(left - 16, y + 4, cut(nameOf(each.own), left - 18), { "text-anchor": "end", class: "name" }),
  );
  const shares = spread(flows, (each) => each.to + each.chosen / 2, top, height).map(([each, y]) =>
    text(right + 16, y + 4, shareOf(each.own), { class: "name" }),
  );
  const chart = drawing(
    width,
    top + height + 14,
    `Domains of the pool and of the selection of ${flow.group.name}`,
    ...ribbons,
    svg("g", { class: "quiet" }, ...names, ...shares),
  );
  const share = `${Math.round(flow.size).toLocaleString("en-US")} (${percent(flow.taken / flow.size)})`;
  const counts = `${plural(Math.round(flow.taken), "document")} of ${share}`;
  return panel(flow.cell, counts, chart);
}

const shareOf = (own) => `${percent(own.chosen)}${own.pool ? `  \u00d7${Number((own.chosen / own.pool).toPrecision(2))}` : ""}`;

function ribbon({ own, from, to, pool, chosen }, left, right) {
  const middle = (left + right) / 2;
  const [under, below] = [from + pool, to + chosen];
  const upper = `M${left} ${from}C${middle} ${from} ${middle} ${to} ${right} ${to}`;
  const d = `${upper}V${below}C${middle} ${below} ${middle} ${under} ${left} ${under}Z`;
  const bars = [
    svg("rect", { x: left - 9, y: from, width: 9, height: Math.max(pool, 0.8) }),
    svg("rect", { x: right, y: to, width: 9, height: Math.max(chosen, 0.8) }),
  ];
  const note = [nameOf(own), `pool: ${percent(own.pool)}`, `selection: ${percent(own.chosen)}`];
  return noted(svg("g", { class: `flow ${colourOf(own)}` }, svg("path", { d }), ...bars), note);
}

// Places for words that would lie upon each other: each at least a line below the one before
function spread(rows, middle, top, height) {
  const [line, end] = [13, top + height - 4];
  const places = rows.map(middle);
  for (let at = 1; at < places.length; at++) places[at] = Math.max(places[at], places[at - 1] + line);
  if (places.at(-1) > end) places[places.length - 1] = end;
  for (let at = places.length - 2; at >= 0; at--) places[at] = Math.min(places[at], places[at + 1] - line);
  return rows.map((row, at) => [row, places[at]]).filter(([, place]) => place > top - 6);
}

// All settings in numbers: the largest domains of any
function sharesOf(flows) {
  const places = [...new Set(flows.flatMap((flow) => flow.domains.map((own) => own.domain)))].filter((at) => at >= 0);
  const shown = places.sort((a, b) => a - b).slice(0, COLUMNS);
  const share = (flow, at) => flow.domains.find((own) => own.domain === at)?.chosen;
  const words = (flow) => shown.map((at) => (share(flow, at) == null ? "" : percent(share(flow, at))));
  const rows = flows.map((flow) => ({ group: flow.group, words: [flow.group.name, ...words(flow)] }));
  return folded(
    "Shares of domains in every selection",
    tableOf(["setting", ...shown.map((at) => data.domains[at] || "(none)")], rows),
  );
}

function lengths(flows) {
  const known = flows.filter((flow) => flow.length.length);
  if (!known.length) return null;
  const mean = (flow, at) => flow.length.reduce((sum, pair) => sum + pair[at], 0) / flow.length.length;
  const rows = known.map((flow) => {
    const [pool, chosen] = [mean(flow, 0), mean(flow, 1)];
    return {
      group: flow.group,
      words: [flow.group.name, pool.toFixed(1), chosen.toFixed(1), pool ? (chosen / pool).toFixed(2) : ""],
    };
  });
  return folded("Length of documents", tableOf(["setting", "pool (mean tokens)", "selected (mean tokens)", "ratio"], rows));
}
