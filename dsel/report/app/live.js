// While the sweep runs: its state at the top, and the page again when there are new results. Only the watching server adds this file.
import { find, html } from "./element.js";
import { duration } from "./format.js";

const panel = find("#live");
const ORDER = ["done", "running", "failed", "died", "waiting", "pruned", "skipped"];
const source = new EventSource("events");

source.addEventListener("page", (event) => {
  if (event.data !== panel.dataset.version) again();
});
source.addEventListener("status", (event) => show(JSON.parse(event.data)));
source.addEventListener("open", () => panel.classList.remove("lost"));
source.addEventListener("error", () => panel.classList.add("lost"));

// Not under the hands of somebody who types
function again() {
  if (document.activeElement?.matches("input, select")) return void setTimeout(again, 500);
  sessionStorage.setItem("dsel-scroll", String(scrollY));
  location.reload();
}

addEventListener("load", () => {
  const place = Number(sessionStorage.getItem("dsel-scroll"));
  sessionStorage.removeItem("dsel-scroll");
  if (place) requestAnimationFrame(() => scrollTo({ top: place, behavior: "instant" }));
});

function show(status) {
  const states = ORDER.filter((state) => status.counts[state]);
  const all = states.reduce((sum, state) => sum + status.counts[state], 0);
  const parts = states.map((state) =>
    html("span", { class: state, style: `flex-grow: ${status.counts[state]}`, title: `${status.counts[state]} ${state}` }),
  );
  const words = states.map((state) => html("span", { class: "count" }, html("b", {}, String(status.counts[state])), ` ${state} `));
  const left = status.seconds_left == null ? null : html("span", { class: "count" }, `about ${duration(status.seconds_left)} left`);
  const rows = status.cells.filter((cell) => ["running", "failed", "died"].includes(cell.state)).map(row);
  const wasOpen = find("details", panel)?.open ?? false;
  const details = rows.length
    ? html(
        "details",
        { open: wasOpen },
        html("summary", {}, "Cells under way, and cells that failed"),
        html("table", {}, html("tbody", {}, ...rows)),
      )
    : null;
  panel.replaceChildren(
    html("div", { class: "meter", role: "img", "aria-label": `${status.counts.done ?? 0} of ${all} cells done` }, ...parts),
    html("p", {}, ...words, left),
    ...[details].filter(Boolean),
  );
  panel.hidden = false;
}

function row(cell) {
  const share = cell.share == null ? "" : `${Math.round(100 * cell.share)} %`;
  const words = [
    cell.state,
    cell.overrides.join(" ") || cell.folder,
    [cell.phase, share].filter(Boolean).join(" "),
    duration(cell.seconds),
    cell.cause,
  ];
  return html("tr", { class: cell.state }, ...words.map((text) => html("td", { class: "key" }, text)));
}
