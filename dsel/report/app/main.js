// The page: every view in its section, drawn when it comes into sight, and again when what it depends on changes.
import { find, findAll, html, nothing } from "./element.js";
import { mountDrawer, showDrawer } from "./drawer.js";
import { mountKeyboard } from "./keyboard.js";
import { listen, showChosen } from "./mark.js";
import { mountSidebar, showSidebar } from "./sidebar.js";
import { spoil, watchSight } from "./sight.js";
import { drawAllSpecial, mountSpecial, refreshSpecial } from "./special.js";
import { onChange, visibleCells } from "./state.js";
import { resultView } from "./view_result.js";
import { paretoView } from "./view_pareto.js";
import { changeView } from "./view_change.js";
import { curvesView } from "./view_curves.js";
import { crossingsView } from "./view_crossings.js";
import { flowView } from "./view_flow.js";
import { scoresView } from "./view_scores.js";
import { metricsView } from "./view_metrics.js";
import { costsView } from "./view_costs.js";
import { tableView } from "./view_table.js";

const FIRST = [resultView, paretoView, tableView];
const MORE = [changeView, curvesView, crossingsView, flowView, scoresView, costsView, metricsView]; // below what Vega draws
const sections = [...FIRST.map((view) => build(view, "#views")), ...MORE.map((view) => build(view, "#more"))];

function build(view, place) {
  const [controls, body, note] = [html("div", { class: "controls" }), html("div", { class: "body" }), html("p", { class: "note" })];
  const element = html(
    "section",
    { id: view.id, class: "card", "aria-labelledby": `${view.id}-title` },
    html("div", { class: "top" }, html("h2", { id: `${view.id}-title` }, view.title), controls),
    body,
    note,
  );
  find(place).append(element);
  return { view, element, controls, body, note, dirty: true, near: false };
}

function draw(section) {
  const { view, element, controls, body, note } = section;
  if (!section.dirty || element.hidden) return;
  section.dirty = false;
  const focused = focusWithin(controls);
  const width = Math.floor(body.clientWidth);
  const parts = [view.draw(width, visibleCells()) ?? nothing()].flat();
  controls.replaceChildren(...view.controls().filter(Boolean));
  body.replaceChildren(...parts);
  note.textContent = view.note?.() ?? "";
  element.setAttribute("aria-busy", "false");
  restore(controls, focused);
  showChosen();
}

// The pressed button is made anew: whoever tabbed to it stays there
function focusWithin(controls) {
  const active = controls.contains(document.activeElement) ? document.activeElement : null;
  return active && { key: active.closest("[data-key]")?.dataset.key, value: active.dataset.value };
}

function restore(controls, focused) {
  if (!focused) return;
  const box = find(`[data-key="${focused.key}"]`, controls);
  const button =
    box && focused.value !== undefined ? findAll("button", box).find((each) => each.dataset.value === focused.value) : box;
  button?.focus();
}

function refresh(changed) {
  for (const section of sections) {
    section.element.hidden = !section.view.available();
    if (changed.some((key) => key === "filter" || section.view.uses.includes(key))) spoil(section);
    if (section.near) draw(section);
  }
  if (changed.includes("filter")) refreshSpecial();
  if (changed.some((key) => ["filter", "metric"].includes(key))) showSidebar();
  if (changed.includes("cell")) {
    showDrawer();
    showChosen();
  }
  contents();
}

function contents() {
  const links = findAll("main section[id]")
    .filter((section) => !section.hidden)
    .map((section) => html("a", { href: `#${section.id}`, onclick: jump }, find("h2", section).textContent));
  find("#contents").replaceChildren(...links);
}

// The address behind `#` holds the state: a link to a section must not replace it
function jump(event) {
  event.preventDefault();
  sections.forEach(draw); // what is above must have its height
  find(event.target.getAttribute("href")).scrollIntoView();
}

function watchWidth() {
  let width = find("#views").clientWidth;
  const again = () => {
    sections.forEach(spoil);
    sections.filter((section) => section.near).forEach(draw);
  };
  new ResizeObserver(() => {
    const now = find("#views").clientWidth;
    if (now !== width) requestAnimationFrame(again);
    width = now;
  }).observe(find("#views"));
}

function drawAll() {
  sections.forEach(draw);
  drawAllSpecial();
}

mountSidebar();
mountDrawer();
mountKeyboard();
mountSpecial();
listen();
onChange(refresh);
refresh(["filter"]);
watchSight(sections, draw);
watchWidth();
addEventListener("beforeprint", drawAll);
