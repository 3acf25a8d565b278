// The language of the filter: words that must all hold. `arm=cds,less`, `seed!=0`, `cost.seconds<100`, or a bare word in the cell's name.
import { allKeys, settingOf } from "./data.js";
import { typed } from "./format.js";

const TERM = /(?:"[^"]*"|[^\s"])+/g;
const PARTS = /^([^=<>!]+?)(!=|<=|>=|=|<|>)(.*)$/;

function parse(text) {
  return (text.match(TERM) ?? []).map((term) => {
    const [, key, sign, value] = PARTS.exec(term) ?? [];
    if (key == null) return { word: unquote(term).toLowerCase() };
    return { key: unquote(key), sign, values: splitValues(value) };
  });
}

const splitValues = (text) => (text.match(/(?:"[^"]*"|[^,"])+/g) ?? []).map(unquote);
const unquote = (text) => text.replace(/"/g, "");
export const quote = (text) => (/[\s,"=<>!]/.test(text) ? `"${text}"` : text);

// A key may be typed by its end: `fraction` for budget.fraction
export function resolve(key) {
  if (allKeys.includes(key)) return key;
  return allKeys.find((known) => known.endsWith(`.${key}`)) ?? allKeys.find((known) => known.endsWith(key)) ?? null;
}

// A test of cells, and the keys that no cell knows
export function compile(text) {
  const terms = parse(text).map((term) => (term.word == null ? { ...term, known: resolve(term.key) } : term));
  const unknown = terms.filter((term) => term.known === null).map((term) => term.key);
  return { unknown, test: (cell) => terms.every((term) => term.known === null || holds(term, cell)) };
}

function holds(term, cell) {
  if (term.word != null) return `${cell.group.name} ${cell.folder}`.toLowerCase().includes(term.word);
  const value = settingOf(cell, term.known);
  if (term.sign === "=" || term.sign === "!=") {
    const equal = value !== undefined && term.values.some((wanted) => same(value, wanted));
    return equal === (term.sign === "=");
  }
  const [one, two] = [Number(value), Number(term.values[0])];
  if (value == null || Number.isNaN(one) || Number.isNaN(two)) return false;
  return { "<": one < two, ">": one > two, "<=": one <= two, ">=": one >= two }[term.sign];
}

function same(value, wanted) {
  if (typeof value === "number" && wanted !== "" && Number(wanted) === value) return true;
  return typed(value).toLowerCase() === wanted.toLowerCase();
}

// The values that the text lets through for a key: null where it says nothing
export function allowed(text, key) {
  const term = parse(text).find((each) => each.sign === "=" && each.key === key);
  return term ? term.values : null;
}

// The text with `key=values` in place of what it said of the key; without it for null
export function withValues(text, key, values) {
  const kept = (text.match(TERM) ?? []).filter((term) => {
    const [, known, sign] = PARTS.exec(term) ?? [];
    return !(known === key && sign === "=");
  });
  if (values) kept.push(`${key}=${values.map((value) => quote(typed(value))).join(",")}`);
  return kept.join(" ");
}
