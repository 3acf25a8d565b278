// Keys that work anywhere, the help that lists them, and light or dark.
import { find, html } from "./element.js";
import { chosenCell } from "./state.js";
import { closeDrawer, step } from "./drawer.js";
import { focusFilter } from "./sidebar.js";

const KEYS = [
  ["/", "type a filter"],
  ["Tab", "to the next drawing or button"],
  ["\u2190 \u2192 \u2191 \u2193", "from mark to mark within a drawing; Home and End: first and last"],
  ["Enter", "open the cell of a mark"],
  ["[ ]", "previous and next cell, with one open"],
  ["Esc", "close the cell or this help; leave the filter"],
  ["d", "light or dark"],
  ["?", "this help"],
];
const FILTERS = [
  ["arm=cds,less", "one of several values"],
  ["seed!=0", "any other value"],
  ["cost.seconds<100", "a number below (also >, <=, >=), of any metric, cost or key"],
  ["fraction=0.1", "the end of a key is enough"],
  ["cds", "a word in the name of the cell"],
];

const help = html("dialog", { id: "help", "aria-label": "Help" });

export function mountKeyboard() {
  const rows = (pairs) =>
    html(
      "dl",
      { class: "pairs" },
      ...pairs.map(([key, words]) => html("div", {}, html("dt", {}, html("kbd", {}, key)), html("dd", {}, words))),
    );
  const close = html("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => help.close() }, "\u00d7");
  help.append(
    close,
    html("h2", {}, "Keys"),
    rows(KEYS),
    html("h2", {}, "Filters"),
    rows(FILTERS),
    html(
      "p",
      { class: "note" },
      "All words must hold. What you chose is in the address: copy it, and the page opens like this again.",
    ),
  );
  document.body.append(help);
  help.addEventListener("click", (event) => event.target === help && help.close());
  find("#ask").addEventListener("click", () => help.showModal());
  find("#theme").addEventListener("click", turn);
  document.addEventListener("keydown", press);
  remembered((store) => paint(store.getItem("dsel-theme")));
}

function press(event) {
  const typing = event.target.closest?.("input, select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") escape(typing);
  else if (typing || help.open) return;
  else if (event.key === "/") focusFilter();
  else if (event.key === "?") help.showModal();
  else if (event.key === "d") turn();
  else if (event.key === "[" && chosenCell()) step(-1);
  else if (event.key === "]" && chosenCell()) step(1);
  else return;
  if (event.key !== "Escape") event.preventDefault();
}

function escape(typing) {
  if (help.open) help.close();
  else if (typing) typing.blur();
  else if (chosenCell()) closeDrawer();
}

const isDark = () =>
  (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function turn() {
  paint(isDark() ? "light" : "dark");
  remembered((store) => store.setItem("dsel-theme", document.documentElement.dataset.theme));
}

function paint(theme) {
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
}

// A browser may refuse to keep anything for a file
function remembered(use) {
  try {
    use(localStorage);
  } catch {
    return;
  }
}
