// Progress of training: the mean curve of each setting with its lowest and highest seed, or every seed alone.
import { choice, toggle } from "./control.js";
import { cells as allCells, data } from "./data.js";
import { plotCurves } from "./plot_curves.js";
import { state } from "./state.js";
import { meanCurve } from "./statistics.js";

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

// Where more values of x than series were tried, colours are x, else series
const manyX = data.x?.texts.length > 1;
const shadeOf = () => (manyX ? state.shade || (data.x.texts.length > data.series.length ? "x" : "series") : "series");

export const curvesView = {
  id: "curves",
  title: "Learning curves",
  uses: ["phase", "loss", "along", "seeds", "shade"],
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
    manyX &&
      choice(
        "Colour",
        "shade",
        [
          ["series", "by setting"],
          ["x", `by ${data.x.title}`],
        ],
        undefined,
        shadeOf(),
      ),
    toggle("Seeds", "seeds", "Every seed's own curve in place of the mean"),
  ],
  draw(width, cells) {
    const lines = linesOf(cells);
    const names = {
      along: TITLES[alongOf()],
      unit: alongOf() === "step" ? "steps" : alongOf(),
      loss: LOSSES.find(([loss]) => loss === lossOf())[1],
    };
    return lines.length ? plotCurves(width, lines, { ...names, byX: shadeOf() === "x", single: Boolean(state.seeds) }) : null;
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
