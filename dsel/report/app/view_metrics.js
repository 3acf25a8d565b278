// Every metric at a glance: small drawings, of which a click makes one the large one.
import { data, valueOf } from "./data.js";
import { html } from "./element.js";
import { plot, rowsOf } from "./view_result.js";
import { change, state } from "./state.js";

const told = data.metrics.filter(
  (metric) => metric.key.startsWith("metrics.") && new Set(metric.values.filter((value) => value != null)).size > 1,
);

export const metricsView = {
  id: "metrics",
  title: "Every metric",
  uses: ["metric", "order"],
  available: () => told.length > 1,
  controls: () => [],
  draw(width, cells) {
    const columns = Math.max(1, Math.floor(width / 250));
    const each = Math.floor((width - 16 * (columns - 1)) / columns);
    const shown = told.filter((metric) => cells.some((cell) => valueOf(cell, metric) != null));
    return shown.length
      ? html("div", { class: "panels", style: `--columns: ${columns}` }, ...shown.map((metric) => panel(each, metric, cells)))
      : null;
  },
  note: () => "The same marks as above, in the order of the table. Click a title to see that metric large, here and in every view.",
};

function panel(width, metric, cells) {
  const rows = rowsOf(cells, metric, false);
  const arrow = { low: " \u2193", high: " \u2191" }[metric.better] ?? "";
  const onclick = () => {
    change({ metric: metric.key });
    document.querySelector("#result")?.scrollIntoView({ block: "start" });
  };
  const name = html(
    "button",
    { type: "button", class: "link", "aria-pressed": String(metric.key === state.metric), onclick },
    metric.title + arrow,
  );
  return html("figure", { class: "panel small" }, html("figcaption", {}, name), plot(width, rows, metric, { small: true }));
}
