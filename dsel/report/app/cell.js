// All about one cell: what it measured and cost, how it was configured, and documents that it chose and left out.
import { data, keys, metrics, selected, settingOf, valueOf } from "./data.js";
import { findAll, folded, html, pairsOf, svg, tableOf } from "./element.js";
import { withValues } from "./filter.js";
import { fixed, percent, short, spread, typed } from "./format.js";
import { change } from "./state.js";
import { summarise } from "./statistics.js";

export const cellParts = (cell) =>
  [measured(cell), cost(cell), configuration(cell), documents(cell, "highest"), documents(cell, "lowest"), place(cell)].filter(
    Boolean,
  );

const block = (title, ...children) => html("section", {}, html("h3", {}, title), ...children);

function measured(cell) {
  const own = data.metrics.filter((metric) => valueOf(cell, metric) != null && !metric.key.startsWith("cost."));
  const rows = own.map((metric) => {
    const all = summarise(cell.group.cells.map((other) => valueOf(other, metric)).filter((value) => value != null));
    const over = html("span", { class: "soft" }, all.n > 1 ? spread(all, metric.decimals) : "");
    return { words: [metric.title, fixed(valueOf(cell, metric), metric.decimals), over] };
  });
  return rows.length ? block("Measured", tableOf(["", `seed ${cell.seed}`, "over seeds"], rows)) : null;
}

function cost(cell) {
  const own = data.phases.filter((phase) => phase.seconds?.[cell.index] != null);
  if (!own.length) return null;
  const most = Math.max(...own.map((phase) => phase.seconds[cell.index]), 1e-9);
  const rows = own.map((phase) => {
    const [seconds, flops, reused] = [phase.seconds[cell.index], phase.flops?.[cell.index], phase.reused[cell.index]];
    const rect = svg("rect", { width: Math.max(1, (90 * seconds) / most), height: 10, class: reused ? "c0 reused" : "c0" });
    const bar = svg("svg", { width: 90, height: 10, "aria-hidden": "true" }, rect);
    return { words: [phase.name + (reused ? " (reused)" : ""), bar, `${short(seconds)} s`, flops ? short(flops) : ""] };
  });
  const [time, flops] = ["seconds", "flops"]
    .map((unit) => metrics.get(`cost.${unit}`))
    .map((metric) => metric && valueOf(cell, metric));
  const sum = { kind: "sum", words: ["in all", "", time == null ? "" : `${short(time)} s`, flops == null ? "" : short(flops)] };
  return block("Cost", tableOf(["", "", "time", "FLOPs"], [...rows, sum]));
}

// What differs between cells first: a click on a value shows only the cells that share it
function configuration(cell) {
  const differing = data.keys
    .filter((key) => settingOf(cell, key.key) !== undefined)
    .map((key) => [key.key, only(cell, key.key), key.varied]);
  const [varied, others] = [differing.filter((row) => row[2]), differing.filter((row) => !row[2])];
  const common = Object.entries(data.common).map(([key, value]) => [key, typed(value)]);
  const words = `All ${differing.length + common.length} keys, ${others.length} more that differ between cells first`;
  const label = { placeholder: "find a key", "aria-label": "Find a key of the configuration" };
  const search = html("input", { type: "search", ...label, oninput: (event) => narrow(event.target) });
  return block("Configuration", pairsOf(varied), folded(words, search, pairsOf([...others, ...common])));
}

function only(cell, key) {
  const onclick = () => change({ filter: withValues("", key, [settingOf(cell, key)]) });
  return html(
    "button",
    { type: "button", class: "link", title: "Show only cells with this value", onclick },
    typed(settingOf(cell, key)),
  );
}

function narrow(input) {
  const wanted = input.value.toLowerCase();
  for (const row of findAll("dl > div", input.parentElement)) row.hidden = !row.textContent.toLowerCase().includes(wanted);
}

function documents(cell, side) {
  const own = selected.get(cell.index)?.[side];
  if (!own?.length) return null;
  return block(`Documents with the ${side} scores`, ...own.map(documentOf), side === "highest" ? chosenShare(cell) : null);
}

function documentOf([at, score, isSelected, isPlanted]) {
  const [id, domain, words] = data.documents[at];
  const kind = html("span", { class: isSelected ? "tag in" : "tag" }, isSelected ? "selected" : "left out");
  const planted = isPlanted ? html("span", { class: "tag planted" }, "planted") : null;
  const number = html("b", {}, score == null ? "" : short(score));
  const summary = html("summary", {}, number, kind, planted, html("span", {}, domain), html("small", {}, id));
  return html("details", { class: "document" }, summary, html("pre", {}, words || "(left out: this page has too many documents)"));
}

function chosenShare(cell) {
  const domains = selected.get(cell.index).domains;
  if (!domains) return null;
  const [pool, chosen] = [1, 2].map((at) => domains.reduce((sum, entry) => sum + entry[at], 0));
  const words = `${chosen.toLocaleString("en-US")} of ${pool.toLocaleString("en-US")} were selected (${percent(chosen / pool)}).`;
  return html("p", { class: "note" }, words);
}

function place(cell) {
  const varied = [...keys.values()].filter((key) => key.varied && settingOf(cell, key.key) !== undefined);
  const overrides = varied.map((key) => `${key.key}=${typed(settingOf(cell, key.key))}`).join(" ");
  return block(
    "Where",
    pairsOf(
      [
        ["folder", cell.folder],
        ["fingerprint", cell.fingerprint],
        ["overrides", overrides],
      ].filter((row) => row[1]),
    ),
  );
}
