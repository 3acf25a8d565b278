// Progress of training: the mean curve of each setting with its lowest and highest seed, or every seed alone.
import { choice, toggle } from "./control.js";
import { cells as allCells, data } from "./data.js";
import { svg, html } from "./element.js";
import { fixed, short } from "./format.js";
import { drawing, path, xAxis, yAxis } from "./frame.js";
import { mark, swatch } from "./mark.js";
import { linear, padded } from "./scale.js";
import { state } from "./state.js";
import { meanCurve } from "./statistics.js";

const BANDS = 8; // more of them upon each other hide the lines
const LOSSES = [
  ["target_loss", "target loss"],
  ["pool_loss", "pool loss"],
  ["train_loss", "training loss"],
];
const ALONG = [
  ["step", "steps"],
  ["tokens", "tokens"],
  ["flops", "FLOPs"],
];
const TITLES = { step: "optimizer step", tokens: "tokens in this phase", flops: "FLOPs after pretraining: selection and training" };

const curveOf = () => data.curves.find((curve) => curve.phase === state.phase) ?? data.curves.at(-1);
const losses = () => LOSSES.filter(([loss]) => curveOf().cells.some((own) => own[loss] != null));
const lossOf = () => (losses().some(([loss]) => loss === state.loss) ? state.loss : losses()[0]?.[0]);
const alongs = () =>
  ALONG.filter(
    ([along]) => along === "step" || curveOf().cells.some((own) => own.tokens != null && (along === "tokens" || flopsOf(own.cell))),
  );
const alongOf = () => (alongs().some(([along]) => along === state.along) ? state.along : "step");

export const curvesView = {
  id: "curves",
  title: "Learning curves",
  uses: ["phase", "loss", "along", "seeds"],
  available: () => data.curves.length > 0,
  controls: () => [
    choice(
      "Phase",
      "phase",
      data.curves.map((curve) => [curve.phase, curve.title]),
      undefined,
      curveOf().phase,
    ),
    choice("Loss", "loss", losses(), undefined, lossOf()),
    choice("Along", "along", alongs(), undefined, alongOf()),
    toggle("Seeds", "seeds", "Every seed's own curve in place of the mean"),
  ],
  draw(width, cells) {
    const lines = linesOf(cells);
    return lines.length ? draw(width, lines) : null;
  },
  note: () =>
    (state.seeds ? "Every seed's own curve." : "Mean over seeds; band: lowest to highest seed.") +
    " Click a curve to see its cell." +
    (alongOf() === "flops" ? " FLOPs count every phase after pretraining that came before, scoring the pool included." : ""),
};

// What a cell's phase took, and what the phases between pretraining and it had taken
function flopsOf(cell) {
  const at = data.phases.findIndex((phase) => phase.name === curveOf().phase);
  const own = data.phases[at]?.flops?.[cell];
  if (!own) return null;
  const before = data.phases.slice(0, at).filter((phase) => phase.name !== "pretrain");
  return { own, before: before.reduce((sum, phase) => sum + (phase.flops?.[cell] ?? 0), 0) };
}

function pointsOf(own) {
  const steps = data.arrays[own.step];
  const tokens = own.tokens == null ? null : data.arrays[own.tokens];
  const ys = data.arrays[own[lossOf()]];
  if (alongOf() === "step" || !tokens) return { steps, xs: steps, ys };
  if (alongOf() === "tokens") return { steps, xs: tokens, ys };
  const { own: flops, before } = flopsOf(own.cell) ?? { own: 0, before: 0 };
  const last = tokens.at(-1) || 1;
  return { steps, xs: tokens.map((count) => before + (flops * count) / last), ys };
}

function linesOf(cells) {
  const shown = new Set(cells);
  const owns = curveOf().cells.filter((own) => own[lossOf()] != null && shown.has(allCells[own.cell]));
  const found = new Map();
  for (const own of owns) {
    const cell = allCells[own.cell];
    const key = state.seeds ? cell : cell.group;
    if (!found.has(key)) found.set(key, { cell, curves: [] });
    found.get(key).curves.push(pointsOf(own));
  }
  return [...found.values()]
    .map(({ cell, curves }) => ({ cell, n: curves.length, points: meanCurve(curves) }))
    .filter((each) => each.points.length > 1);
}

function draw(width, lines) {
  const height = Math.min(460, Math.max(300, width * 0.42));
  const area = { left: 58, right: width - 16, top: 34, bottom: height - 46 };
  const points = lines.flatMap((each) => each.points);
  const x = linear(
    [Math.min(...points.map((point) => point.x)), points.reduce((most, point) => Math.max(most, point.x), 0)],
    [area.left, area.right],
  );
  const y = linear(
    padded(
      points.flatMap((point) => [point.low, point.high]),
      0.03,
    ),
    [area.bottom, area.top],
  );
  const bands = lines.length <= BANDS && !state.seeds;
  const marks = lines.map((each) => drawLine(each, x, y, bands));
  const title = `${LOSSES.find(([loss]) => loss === lossOf())[1]} (nats/token)`;
  const chart = drawing(
    width,
    height,
    `${title} while ${curveOf().title}`,
    yAxis(y, area, title),
    xAxis(x, area, TITLES[alongOf()]),
    ...marks,
  );
  return html("div", {}, chart, legend(lines));
}

function drawLine({ cell, n, points }, x, y, band) {
  const { series } = cell.group;
  const d = path(points.map((point) => [x(point.x), y(point.mean)]));
  const edge = [
    ...points.map((point) => [x(point.x), y(point.high)]),
    ...points.map((point) => [x(point.x), y(point.low)]).reverse(),
  ];
  const end = points.at(-1);
  const note = [
    state.seeds ? `${cell.group.name}, seed ${cell.seed}` : cell.group.name,
    `ends at ${fixed(end.mean, 4)} (${short(end.x)} ${alongOf() === "step" ? "steps" : alongOf()})`,
    n > 1 ? `${n} seeds` : "one seed",
  ];
  const dash = ["", "6 3", "2 3", "9 3 2 3"][cell.group.cells.length ? dashOf(cell.group) : 0];
  return mark(
    cell,
    note,
    { class: `curve ${series.colour}` },
    band ? svg("path", { d: `${path(edge)}Z`, class: "band" }) : null,
    svg("path", { d, class: "reach wide" }),
    svg("path", { d, class: "line", "stroke-dasharray": dash }),
  );
}

// Within a series, settings with another x have another dash
function dashOf(group) {
  const texts = data.x?.texts ?? [];
  return Math.max(0, texts.indexOf(group.x_text)) % 4;
}

function legend(lines) {
  const series = [...new Set(lines.map((each) => each.cell.group.series))].slice(0, 24);
  const texts = (data.x?.texts ?? []).filter((words) => lines.some((each) => each.cell.group.x_text === words));
  const dashes =
    texts.length > 1 && texts.length <= 4
      ? texts.map((words) =>
          html(
            "span",
            {},
            svg(
              "svg",
              { width: 26, height: 8 },
              svg("line", {
                x1: 0,
                x2: 26,
                y1: 4,
                y2: 4,
                class: "dash",
                "stroke-dasharray": ["", "6 3", "2 3", "9 3 2 3"][data.x.texts.indexOf(words) % 4],
              }),
            ),
            `${data.x.title} ${words}`,
          ),
        )
      : [];
  return html("div", { class: "legend" }, ...series.map((each) => html("span", {}, swatch(each), each.name)), ...dashes);
}
