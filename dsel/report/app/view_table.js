// All numbers: a row for each setting, mean ± sd over the seeds that the filter lets through, and differences paired by seed.
import { toggle } from "./control.js";
import { data, valueOf } from "./data.js";
import { html } from "./element.js";
import { spread } from "./format.js";
import { swatch } from "./mark.js";
import { change, state } from "./state.js";
import { byGroup, difference } from "./statistics.js";
import { canCompare } from "./view_result.js";

const PAIRED = ["metrics.target_loss_before_ft", "metrics.target_loss_after_ft", "metrics.target_loss_trained"];
const all = data.metrics.filter((metric) => metric.key.startsWith("metrics.") || metric.key === "cost.seconds");
const known = all.filter((metric) => metric.known);
const usual = known.some((metric) => metric.key.startsWith("metrics.")) ? known : all;

const paired = () => canCompare() && all.some((metric) => PAIRED.includes(metric.key));

export const tableView = {
  id: "table",
  title: "Table",
  uses: ["sort", "columns"],
  available: () => data.groups.length > 0,
  controls: () => [usual.length < all.length && toggle("All columns", "columns", "Metrics without a name of their own, too")],
  draw(width, cells) {
    const columns = columnsOf(cells);
    const groups = [...new Set(cells.map((cell) => cell.group))].sort((a, b) => a.index - b.index);
    if (!groups.length) return null;
    const sorted = sort(groups, columns);
    const head = html("tr", {}, title("setting", "", "key"), ...columns.map((column) => title(column.title, column.key)));
    const rows = sorted.map((group) => row(group, columns, cells));
    return html(
      "div",
      { class: "scroll tall" },
      html("table", { class: "main" }, html("thead", {}, head), html("tbody", {}, ...rows)),
    );
  },
  note: () =>
    `Mean ± standard deviation over seeds; losses in nats per token; the best of each column is bold. ` +
    (paired() ? `Δ: difference from ${data.baseline} with the same seed and other settings; in brackets, ` : "") +
    (paired() ? "the seeds in which it is lower. " : "") +
    `Click a title to sort, a row to see its cell. The whole table is in table.csv, table.md and table.tex, too.`,
};

function columnsOf(cells) {
  const found = [];
  for (const metric of state.columns ? all : usual) {
    const rows = byGroup(cells, (cell) => valueOf(cell, metric));
    if (!rows.length) continue;
    found.push(column(metric.key, metric.title, rows, metric, (own) => spread(own, metric.decimals)));
    if (!PAIRED.includes(metric.key)) continue;
    const gaps = byGroup(cells, (cell) => difference(cell, (each) => valueOf(each, metric)));
    const words = (own) =>
      `${spread(own, metric.decimals, true)} (${own.points.filter((point) => point.value < 0).length}/${own.n})`;
    if (gaps.length)
      found.push(
        column(
          `delta:${metric.key}`,
          `\u0394 ${data.baseline} ${metric.title.replace("target", "").trim()}`.trim(),
          gaps,
          null,
          words,
        ),
      );
  }
  return found;
}

function column(key, title, rows, metric, words) {
  const means = rows.map((row) => row.mean);
  const best =
    metric?.better && new Set(means).size > 1 ? (metric.better === "low" ? Math.min(...means) : Math.max(...means)) : null;
  return { key, title, best, words, rows: new Map(rows.map((row) => [row.group, row])) };
}

// `sort` is the key of a column, with `-` before it for the largest first
function sort(groups, columns) {
  const key = state.sort.replace(/^-/, "");
  const chosen = columns.find((each) => each.key === key);
  if (!chosen) return groups;
  const sign = state.sort.startsWith("-") ? -1 : 1;
  const value = (group) => sign * (chosen.rows.get(group)?.mean ?? sign * Infinity);
  return [...groups].sort((a, b) => value(a) - value(b));
}

function title(words, key, kind) {
  const direction = !key ? null : state.sort === key ? "ascending" : state.sort === `-${key}` ? "descending" : "none";
  const onclick = () => change({ sort: state.sort === key ? `-${key}` : state.sort === `-${key}` ? "" : key });
  const arrow = { ascending: " \u2191", descending: " \u2193" }[direction] ?? "";
  const button = html(
    "button",
    { type: "button", class: "sort", onclick: key ? onclick : () => change({ sort: "" }) },
    words + arrow,
  );
  return html("th", { scope: "col", class: kind, "aria-sort": direction }, button);
}

function row(group, columns, cells) {
  const own = cells.filter((cell) => cell.group === group);
  const open = () => change({ cell: own[0].folder });
  const name = html("button", { type: "button", class: "link", onclick: open }, swatch(group.series), group.name);
  const seeds = html("small", {}, `${own.length === 1 ? "seed" : "seeds"} ${own.map((cell) => cell.seed).join(", ")}`);
  const values = columns.map((each) => {
    const found = each.rows.get(group);
    const [mean, ...rest] = found ? each.words(found).split(" \u00b1 ") : [""];
    return html(
      "td",
      { class: found && found.mean === each.best ? "best" : null },
      mean,
      rest.length ? html("small", {}, `\u00b1 ${rest.join("")}`) : null,
    );
  });
  return html(
    "tr",
    { "data-group": group.index, onclick: (event) => event.target.closest("button") || open() },
    html("th", { scope: "row" }, name, seeds),
    ...values,
  );
}
