// Of a Vega-Lite specification what some cells are in: the row of a seed stays with its cell, a mean over seeds with its setting. Panels
// that no row is left for go; null where none is left. What is not of a setting stays as it is.
export function visibleOf(specification, cells) {
  const names = new Set(cells.flatMap(({ group, seed }) => [nameOf(group.name), nameOf(group.name, seed)]));
  const datasets = Object.entries(specification.datasets ?? {});
  const kept = datasets.map(([name, rows]) => [
    name,
    rows.filter((row) => row.group == null || names.has(nameOf(row.group, row.seed))),
  ]);
  if (!datasets.some(([, rows]) => rows.some((row) => row.group != null))) return specification;
  const full = new Set(kept.filter(([, rows]) => rows.some((row) => row.group != null)).map(([name]) => name));
  return panelsOf({ ...specification, datasets: Object.fromEntries(kept) }, full);
}

const nameOf = (group, seed) => JSON.stringify([group, seed ?? null]);
const PLACES = ["concat", "hconcat", "vconcat"];
const partsOf = (view) => [...PLACES, "layer"].flatMap((place) => view[place] ?? []);
const lives = (view, full) => full.has(view.data?.name) || partsOf(view).some((part) => lives(part, full));

function panelsOf(view, full) {
  if (!lives(view, full)) return null;
  const found = { ...view };
  for (const place of PLACES.filter((each) => view[each])) {
    found[place] = full.has(view.data?.name) ? view[place] : view[place].map((part) => panelsOf(part, full)).filter(Boolean);
  }
  return found;
}
