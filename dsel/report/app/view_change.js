// Does the order survive fine-tuning? Each setting before against after, and its rank before and after.
import { atMoment, hasMoments, metrics, valueOf } from "./data.js";
import { svg, html } from "./element.js";
import { fixed, spread } from "./format.js";
import { cut, drawing, line, text, xAxis, yAxis } from "./frame.js";
import { glyph, mark } from "./mark.js";
import { linear, padded } from "./scale.js";
import { state } from "./state.js";
import { byGroup, ranks } from "./statistics.js";
import { titleOf } from "./view_result.js";

const MOST = 24; // lines that can be told apart
const base = () => (hasMoments(state.metric) ? state.metric : [...metrics.keys()].find(hasMoments));

export const changeView = {
  id: "change",
  title: "Before and after fine-tuning",
  uses: ["metric"],
  available: () => Boolean(base()),
  controls: () => [],
  draw(width, cells) {
    const [before, after] = ["before", "after"].map((moment) => metrics.get(atMoment(base(), moment)));
    const late = new Map(byGroup(cells, (cell) => valueOf(cell, after)).map((row) => [row.group, row]));
    const pairs = byGroup(cells, (cell) => valueOf(cell, before))
      .filter((row) => late.has(row.group))
      .map((row) => ({ group: row.group, cell: row.points[0].cell, before: row, after: late.get(row.group) }));
    if (pairs.length < 2) return null;
    const both = width > 760 && pairs.length <= MOST;
    const left = both ? Math.round(width * 0.52) : width;
    const parts = [scatter(left, pairs, before, after)];
    if (pairs.length <= MOST) parts.push(slopes(both ? width - left - 16 : width, pairs, before.better === "high" ? -1 : 1));
    return html("div", { class: both ? "beside" : null }, ...parts);
  },
  note: () =>
    "The better a setting, the nearer to its corner; bars: one standard deviation. " +
    `Of up to ${MOST} settings the ranks are drawn, too: lines that cross are settings that fine-tuning reorders.`,
};

const noteOf = ({ group, before, after }, metric) => [
  group.name,
  `before: ${spread(before, metric.decimals)}`,
  `after: ${spread(after, metric.decimals)}`,
  `change: ${fixed(after.mean - before.mean, metric.decimals, true)}`,
];

function scatter(width, pairs, before, after) {
  const height = 360;
  const area = { left: 58, right: width - 16, top: 34, bottom: height - 46 };
  const ends = (name) =>
    padded(pairs.flatMap((pair) => [pair[name].mean - (pair[name].sd ?? 0), pair[name].mean + (pair[name].sd ?? 0)]));
  const x = linear(ends("before"), [area.left, area.right]);
  const y = linear(ends("after"), [area.bottom, area.top]);
  const marks = pairs.map((pair) => {
    const [left, top] = [x(pair.before.mean), y(pair.after.mean)];
    const [wide, high] = [pair.before.sd ?? 0, pair.after.sd ?? 0];
    return mark(
      pair.cell,
      noteOf(pair, before),
      { class: pair.group.series.colour },
      line(x(pair.before.mean - wide), top, x(pair.before.mean + wide), top, { class: "spread" }),
      line(left, y(pair.after.mean - high), left, y(pair.after.mean + high), { class: "spread" }),
      svg("circle", { cx: left, cy: top, r: 10, class: "reach" }),
      glyph(pair.group.series, left, top),
    );
  });
  return drawing(
    width,
    height,
    `${before.title} against ${after.title}`,
    yAxis(y, area, titleOf(after)),
    xAxis(x, area, titleOf(before)),
    ...marks,
  );
}

function slopes(width, pairs, sign) {
  const step = Math.min(30, Math.max(17, 300 / pairs.length));
  const height = Math.max(200, step * pairs.length + 60);
  const [left, right] = [46, Math.max(140, width - 230)];
  const first = ranks(pairs.map((pair) => sign * pair.before.mean));
  const last = ranks(pairs.map((pair) => sign * pair.after.mean));
  const y = (rank) => 44 + step * (rank - 0.5);
  const marks = pairs.map((pair, at) => {
    const moved = first[at] === last[at] ? "keeps its rank" : `from rank ${first[at]} to ${last[at]}`;
    const [one, two] = [y(first[at]), y(last[at])];
    const curve = `M${left} ${one}C${(left + right) / 2} ${one} ${(left + right) / 2} ${two} ${right} ${two}`;
    return mark(
      pair.cell,
      [pair.group.name, moved],
      { class: pair.group.series.colour },
      svg("path", { d: curve, class: "reach wide" }),
      svg("path", { d: curve, class: "slope" }),
      glyph(pair.group.series, left, one),
      glyph(pair.group.series, right, two),
      text(left - 14, one + 4, String(first[at]), { class: "name", "text-anchor": "end" }),
      text(right + 12, two + 4, `${last[at]}  ${cut(pair.group.name, 205)}`, { class: "name" }),
    );
  });
  const heads = [
    text(left, 22, "rank before", { class: "title", "text-anchor": "middle" }),
    text(right, 22, "rank after", { class: "title", "text-anchor": "middle" }),
  ];
  return drawing(width, height, "ranks before and after fine-tuning", svg("g", { class: "axis" }, ...heads), ...marks);
}
