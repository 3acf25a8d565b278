// The sweep, as the report embeds it: columns by cell, and what is made of them once.
import { find } from "./element.js";

export const data = JSON.parse(find("#data").textContent);
export const groups = data.groups.map((group, index) => ({ ...group, index, series: data.series[group.series] }));
export const cells = data.cells.folder.map((folder, index) => ({
  index,
  folder,
  group: groups[data.cells.group[index]],
  seed: data.cells.seed[index],
  label: data.cells.label[index],
  fingerprint: data.cells.fingerprint[index],
}));
groups.forEach((group) => (group.cells = cells.filter((cell) => cell.group === group)));

export const metrics = new Map(data.metrics.map((metric) => [metric.key, metric]));
export const keys = new Map(data.keys.map((key) => [key.key, key]));
export const selected = new Map(data.selected.map((row) => [row.cell, row]));
export const valueOf = (cell, metric) => metric.values[cell.index];

// The same metric at the other moment: before or after fine-tuning
export function atMoment(key, moment) {
  return key?.replace(/_(before|after)_ft$/, `_${moment}_ft`);
}
export const momentOf = (key) => /_(before|after)_ft$/.exec(key ?? "")?.[1] ?? null;
export const hasMoments = (key) =>
  momentOf(key) != null && metrics.has(atMoment(key, "before")) && metrics.has(atMoment(key, "after"));

// A key of the configuration for a cell; undefined where the cell has no such key
export function settingOf(cell, key) {
  if (key === "series") return cell.group.series.name;
  if (key === "setting") return cell.group.name;
  if (key === "label") return cell.label;
  if (key === "folder") return cell.folder;
  const column = keys.get(key);
  if (column) return column.at[cell.index] < 0 ? undefined : column.values[column.at[cell.index]];
  return metrics.has(key) ? (valueOf(cell, metrics.get(key)) ?? undefined) : data.common[key];
}

// Every key that a filter may name, those that the sweep varied first
export const allKeys = [
  ...data.keys.filter((key) => key.varied).map((key) => key.key),
  "series",
  "label",
  "setting",
  "folder",
  ...data.keys.filter((key) => !key.varied).map((key) => key.key),
  ...metrics.keys(),
  ...Object.keys(data.common),
];
