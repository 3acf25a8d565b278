// The filter: a line to type in, and a button for every value of what the sweep varied. Both write the same words.
import { allKeys, cells, data, settingOf } from "./data.js";
import { find, html } from "./element.js";
import { allowed, compile, quote, resolve, withValues } from "./filter.js";
import { plural, typed } from "./format.js";
import { list } from "./control.js";
import { swatch } from "./mark.js";
import { change, state, visibleCells } from "./state.js";

const MOST_VALUES = 40; // buttons of a key
const MOST_WORDS = 200; // to go on with
const known = html("datalist", { id: "known" });
const input = html("input", {
  id: "filter",
  type: "search",
  placeholder: "key=value, key>1, words",
  autocomplete: "off",
  spellcheck: "false",
  list: "known",
  "aria-describedby": "filter-says",
  oninput: () => change({ filter: input.value }),
  onfocus: () => suggest(),
});
const says = html("p", { id: "filter-says", class: "note", role: "status" });
const facets = html("div", { class: "facets" });
const chosen = html("div", { class: "metric" });

export function mountSidebar() {
  const clear = html("button", { type: "button", class: "link", id: "clear", onclick: () => change({ filter: "" }) }, "Show all");
  find("#sidebar .tools").append(
    chosen,
    html("label", { for: "filter" }, "Filter"),
    input,
    known,
    html("div", { class: "says" }, says, clear),
    facets,
  );
  if (matchMedia("(max-width: 62rem)").matches) find("#sidebar details.tools").removeAttribute("open");
  showSidebar();
}

export function showSidebar() {
  if (input.value !== state.filter) input.value = state.filter;
  if (document.activeElement === input) suggest();
  const { unknown } = compile(state.filter);
  const shown = visibleCells().length;
  says.textContent = unknown.length ? `No key ${unknown.join(", ")}` : `${shown} of ${plural(cells.length, "cell")}`;
  says.classList.toggle("bad", unknown.length > 0 || !shown);
  find("#clear").hidden = !state.filter;
  const focused = document.activeElement?.dataset?.facet;
  facets.replaceChildren(...facetKeys.map(facet));
  if (focused) [...facets.querySelectorAll("[data-facet]")].find((button) => button.dataset.facet === focused)?.focus();
  const options = data.metrics
    .filter((metric) => !metric.key.startsWith("cost.") || metric.key === "cost.seconds")
    .map((metric) => [metric.key, metric.long]);
  chosen.replaceChildren(list("Metric", "metric", options));
}

// Keys for the last word, or after a key its values; a browser shows those that go on with what is typed
function suggest() {
  const [, before, last] = /^(.*?)(\S*)$/.exec(input.value);
  const [, key, sign] = /^(.+?)(!?=)/.exec(last) ?? [];
  const words = key
    ? valuesOf(resolve(key)).map((value) => `${key}${sign}${quote(typed(value))}`)
    : allKeys.map((each) => `${each}=`);
  const kept = words.filter((word) => word.includes(last)).slice(0, MOST_WORDS);
  known.replaceChildren(...kept.map((word) => html("option", { value: before + word })));
}

// What the sweep varied, and first the series, of which the other names are often only spellings
const facetKeys = keysToShow();
function keysToShow() {
  const varied = data.keys.filter((key) => key.varied && key.values.length > 1).map((key) => key.key);
  const series = data.series.length > 1 ? ["series"] : [];
  return [...series, ...varied.filter((key) => !(series.length && sameAsSeries(key)))];
}

function sameAsSeries(key) {
  const pairs = new Set(cells.map((cell) => `${cell.group.series.name}\n${typed(settingOf(cell, key))}`));
  return pairs.size === data.series.length && new Set(cells.map((cell) => typed(settingOf(cell, key)))).size === data.series.length;
}

const valuesOf = (key) =>
  key === "series" ? data.series.map((series) => series.name) : (data.keys.find((each) => each.key === key)?.values ?? []);

function facet(key) {
  const on = allowed(state.filter, key);
  const values = valuesOf(key);
  const buttons = values.slice(0, MOST_VALUES).map((value) => {
    const words = typed(value);
    const pressed = !on || on.some((each) => each.toLowerCase() === words.toLowerCase());
    const series = key === "series" ? data.series.find((each) => each.name === value) : null;
    const attributes = {
      type: "button",
      "aria-pressed": String(pressed),
      "data-facet": `${key}=${words}`,
      onclick: (event) => press(key, value, on, event),
    };
    return html("button", attributes, series ? swatch(series) : null, words);
  });
  const more =
    values.length > MOST_VALUES ? html("p", { class: "note" }, `and ${values.length - MOST_VALUES} more: type them above`) : null;
  return html(
    "fieldset",
    { class: key === "series" ? "facet long" : "facet" },
    html("legend", {}, key === "series" ? "setting" : key),
    ...buttons,
    more,
  );
}

// A first click shows a value alone, further ones add and take away; with all, or none, the key is free again
function press(key, value, on, event) {
  const words = typed(value);
  const all = valuesOf(key).map(typed);
  const kept = !on || event.altKey ? [words] : on.includes(words) ? on.filter((each) => each !== words) : [...on, words];
  change({ filter: withValues(state.filter, key, kept.length && kept.length < all.length ? kept : null) });
}

export const focusFilter = () => {
  find("#sidebar details.tools")?.setAttribute("open", "");
  input.focus();
  input.select();
};
