// Curves: a line for each setting or cell, with a band where there are few, coloured by its series or by the number that was varied.
import { data } from "./data.js";
import { html, svg } from "./element.js";
import { fixed, short } from "./format.js";
import { drawing, path, xAxis, yAxis } from "./frame.js";
import { mark, swatch } from "./mark.js";
import { linear, padded } from "./scale.js";

const BANDS = 8; // more of them upon each other hide the lines
const DASHES = ["", "6 3", "2 3", "9 3 2 3"];
const VIRIDIS = [
  [72, 60, 140],
  [49, 104, 142],
  [33, 145, 140],
  [94, 201, 98],
  [220, 200, 30],
]; // without its darkest

// lines: {cell, n, points: [{x, mean, low, high}]}; names: along, unit, loss; byX: colours are x; single: every line is a seed
export function plotCurves(width, lines, names) {
  const height = Math.min(460, Math.max(300, width * 0.42));
  const area = { left: 58, right: width - 16, top: 34, bottom: height - 46 };
  const points = lines.flatMap((each) => each.points);
  const ends = [
    points.reduce((least, point) => Math.min(least, point.x), Infinity),
    points.reduce((most, point) => Math.max(most, point.x), 0),
  ];
  const x = linear(ends, [area.left, area.right]);
  const y = linear(
    padded(
      points.flatMap((point) => [point.low, point.high]),
      0.03,
    ),
    [area.bottom, area.top],
  );
  const bands = lines.length <= BANDS && !names.single;
  const marks = lines.map((each) => drawLine(each, x, y, bands, names));
  const axes = [yAxis(y, area, `${names.loss} (nats/token)`), xAxis(x, area, names.along)];
  return html("div", {}, drawing(width, height, `${names.loss} against ${names.along}`, ...axes, ...marks), legend(lines, names));
}

function drawLine({ cell, n, points }, x, y, band, names) {
  const d = path(points.map((point) => [x(point.x), y(point.mean)]));
  const upper = points.map((point) => [x(point.x), y(point.high)]);
  const lower = points.map((point) => [x(point.x), y(point.low)]);
  const end = points.at(-1);
  const title = names.single ? `${cell.group.name}, seed ${cell.seed}` : cell.group.name;
  const note = [title, `ends at ${fixed(end.mean, 4)} (${short(end.x)} ${names.unit})`, n > 1 ? `${n} seeds` : "one seed"];
  const colour = names.byX ? { style: `--own: ${shade(cell.group.x_text)}` } : {};
  return mark(
    cell,
    note,
    { class: `curve ${names.byX ? "" : cell.group.series.colour}`, ...colour },
    band ? svg("path", { d: `${path([...upper, ...lower.reverse()])}Z`, class: "band" }) : null,
    svg("path", { d, class: "reach wide" }),
    svg("path", { d, class: "line", "stroke-dasharray": dashOf(cell.group, names.byX) }),
  );
}

const texts = data.x?.texts ?? [];

// What colours do not say: the series where they are x, else x where it took few values
function dashOf(group, byX) {
  if (byX) return DASHES[data.series.findIndex((series) => series.name === group.series.name) % DASHES.length];
  return texts.length <= DASHES.length ? DASHES[Math.max(0, texts.indexOf(group.x_text))] : "";
}

function shade(words) {
  const place = (Math.max(0, texts.indexOf(words)) / Math.max(1, texts.length - 1)) * (VIRIDIS.length - 1);
  const [low, high] = [VIRIDIS[Math.floor(place)], VIRIDIS[Math.ceil(place)]];
  return `rgb(${low.map((value, at) => Math.round(value + (place % 1) * (high[at] - value))).join(",")})`;
}

function legend(lines, { byX }) {
  const series = [...new Set(lines.map((each) => each.cell.group.series))].slice(0, 24);
  const shown = texts.filter((words) => texts.length > 1 && lines.some((each) => each.cell.group.x_text === words));
  const one = (group) => stroke({ "stroke-dasharray": dashOf(group, byX) });
  const groups = lines.map((each) => each.cell.group);
  const ofSeries = series.map((each) =>
    html("span", {}, byX ? one(groups.find((group) => group.series === each)) : swatch(each), each.name),
  );
  const ofX = shown.map((words) =>
    html(
      "span",
      {},
      byX ? stroke({ style: `stroke: ${shade(words)}` }) : one(groups.find((group) => group.x_text === words)),
      words,
    ),
  );
  const title = html("span", { class: "soft" }, data.x?.title);
  const told = byX || (shown.length && shown.length <= DASHES.length) ? [title, ...ofX] : [];
  return html("div", { class: "legend" }, ...ofSeries, ...told);
}

const stroke = (attributes) =>
  svg(
    "svg",
    { width: 26, height: 8, "aria-hidden": "true" },
    svg("line", { x1: 0, x2: 26, y1: 4, y2: 4, class: "dash", ...attributes }),
  );
