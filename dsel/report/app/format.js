// How numbers are written, the same everywhere: a true minus sign, thousands apart.

const minus = (text) => text.replace(/-/g, "\u2212");

export function fixed(value, decimals = 3, signed = false) {
  if (value == null || !Number.isFinite(value)) return "";
  if (Math.abs(value) >= 1e6 || (Math.abs(value) > 1e-12 && !signed && Math.abs(value) < 0.5 * 10 ** -decimals))
    return short(value);
  const options = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  return (signed && value > 0 ? "+" : "") + minus(value.toLocaleString("en-US", options));
}

// mean ± sd
export function spread(summary, decimals, signed = false) {
  if (!summary) return "";
  const mean = fixed(summary.mean, decimals, signed);
  return summary.sd == null ? mean : `${mean} \u00b1 ${fixed(summary.sd, decimals)}`;
}

// For axes and costs: 0.25, 400, 12k, 1.2M, 3.4e13
export function short(value) {
  if (value == null || !Number.isFinite(value)) return "";
  const size = Math.abs(value);
  if (size >= 1e10) return minus(trim(value.toExponential(2))).replace("e+", "e");
  if (size >= 1e6) return minus(`${trim((value / 1e6).toPrecision(3))}M`);
  if (size >= 1e4) return minus(`${trim((value / 1e3).toPrecision(3))}k`);
  if (size && size < 1e-3) return minus(trim(value.toExponential(1)));
  return minus(String(Number(value.toPrecision(4))));
}

// How to write the numbers of an axis: all with as many decimals
export function alike(values) {
  if (values.some((value) => Math.abs(value) >= 1e4 || (value && Math.abs(value) < 1e-3))) return short;
  const decimals = Math.max(...values.map((value) => (String(value).split(".")[1] ?? "").length));
  return (value) => fixed(value, decimals);
}

const trim = (text) => text.replace(/(\.\d*?)0+(?=$|e)/, "$1").replace(/\.(?=$|e)/, "");

export function percent(share) {
  const value = 100 * share;
  if (value && value < 0.01) return "< 0.01 %";
  return `${value < 1 ? Number(value.toPrecision(2)) : value < 99.95 && value % 1 ? value.toFixed(1) : value.toFixed(0)} %`;
}

export function duration(seconds) {
  if (seconds == null) return "";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

// A value of the configuration, as one would type it
export const typed = (value) => (value == null ? "null" : String(value));
export const plural = (count, word) => `${count.toLocaleString("en-US")} ${word}${count === 1 ? "" : "s"}`;
