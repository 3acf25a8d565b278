// The metric that the reader chose, for every setting that the filter lets through.
import { choice, toggle } from "./control.js";
import { atMoment, data, groups, hasMoments, momentOf, valueOf } from "./data.js";
import { plotLines, canPlotLines } from "./plot_lines.js";
import { plotRows } from "./plot_rows.js";
import { change, chosenMetric, state } from "./state.js";
import { byGroup, difference } from "./statistics.js";

export const resultView = {
  id: "result",
  title: "Result",
  uses: ["metric", "relative", "order"],
  available: () => Boolean(chosenMetric()),
  controls: () => [momentChoice(), canCompare() && comparison(), sorting()],
  draw(width, cells) {
    const metric = chosenMetric();
    const rows = rowsOf(cells, metric, state.relative && canCompare());
    if (!rows.length) return null;
    return plot(width, rows, metric, { relative: Boolean(state.relative && canCompare()) });
  },
  note: () =>
    `${betterOf(chosenMetric())}Large marks: mean over seeds; bars: one standard deviation; small dots: the seeds. ` +
    "Click a mark to see its cell." +
    (state.relative && canCompare()
      ? ` Difference from ${data.baseline} with the same seed (same pretraining) and the same other settings.`
      : ""),
};

export const canCompare = () => groups.some((group) => group.partner != null);

function momentChoice() {
  if (!hasMoments(state.metric)) return null;
  const moments = [
    ["before", "before fine-tuning"],
    ["after", "after fine-tuning"],
  ];
  const pick = (moment) => change({ metric: atMoment(state.metric, moment), phase: phaseAt(moment) });
  return choice("Moment", "moment", moments, pick, momentOf(state.metric));
}

// Along a number, settings have their order
const sorting = () => !canPlotLines(groups.map((group) => ({ group }))) && toggle("Sort by value", "order", "Best rows first");

const phaseAt = (moment) => {
  const wanted = moment === "before" ? "continue" : "finetune";
  return data.curves.some((curve) => curve.phase === wanted) ? wanted : state.phase;
};

const comparison = () =>
  choice("Values", "relative", [
    ["", "value"],
    ["1", `difference from ${data.baseline}`],
  ]);

export function rowsOf(cells, metric, relative) {
  const own = (cell) => valueOf(cell, metric);
  return byGroup(cells, relative ? (cell) => difference(cell, own) : own);
}

export const betterOf = (metric) => ({ low: "Lower is better. ", high: "Higher is better. " })[metric.better] ?? "";
export const titleOf = (metric, relative) =>
  `${relative ? "difference in " : ""}${metric.long}${metric.unit ? ` (${metric.unit})` : ""}`;

export function plot(width, rows, metric, options) {
  const title = titleOf(metric, options.relative);
  if (canPlotLines(rows)) return plotLines(width, rows, metric, title, options);
  const sign = metric.better === "high" ? -1 : 1;
  const order = state.order ? [...rows].sort((a, b) => sign * (a.mean - b.mean)) : rows;
  return plotRows(width, order, metric, title, options);
}
