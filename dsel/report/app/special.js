// Drawings of some experiments only, which Vega makes from a specification when they come into sight.
import { find, findAll } from "./element.js";

export function mountSpecial() {
  const seen = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => drawSpecial(entry.target)),
    { rootMargin: "300px" },
  );
  findAll("script.spec").forEach((spec) => seen.observe(find(`#chart-${spec.dataset.name}`)));
}

function drawSpecial(target) {
  if (target.dataset.drawn) return;
  target.dataset.drawn = "1";
  const name = target.id.replace("chart-", "");
  const spec = JSON.parse(find(`script.spec[data-name="${name}"]`).textContent);
  const actions = { export: true, source: false, compiled: false, editor: false };
  window.vegaEmbed(target, spec, { renderer: "svg", actions, downloadFileName: name }).catch(console.error);
}

export const drawAllSpecial = () => findAll(".chart").forEach(drawSpecial);
