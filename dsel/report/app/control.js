// Buttons of which one is pressed, and lists to choose from.
import { html } from "./element.js";
import { change, state } from "./state.js";

// options: [value, words]
export function choice(label, key, options, pick = (value) => change({ [key]: value }), current = state[key]) {
  if (options.length < 2) return null;
  const buttons = options.map(([value, words]) =>
    html(
      "button",
      { type: "button", "aria-pressed": String(value === current), "data-value": value, onclick: () => pick(value) },
      words,
    ),
  );
  return html("div", { class: "choice", role: "group", "aria-label": label, "data-key": key }, ...buttons);
}

export function list(label, key, options, current = state[key]) {
  const items = options.map(([value, words]) => html("option", { value, selected: value === current }, words));
  const onchange = (event) => change({ [key]: event.target.value });
  return html("label", { class: "list" }, html("span", {}, label), html("select", { onchange, "data-key": key }, ...items));
}

export function toggle(words, key, title) {
  const pressed = Boolean(state[key]);
  const onclick = () => change({ [key]: pressed ? "" : "1" });
  return html(
    "button",
    { type: "button", class: "toggle", "aria-pressed": String(pressed), "data-key": key, title, onclick },
    words,
  );
}
