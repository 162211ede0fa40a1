// Training curves from Progressed facts, drawn by uPlot: one colour and one dash pattern a run, findings where they happened.

import { h } from "./dom.js";
import uPlot from "./vendor/uplot/uPlot.esm.js";
import * as words from "./words.js";

const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [14, 5], [4, 2, 1, 2]];
const HEIGHT = 230;
const css = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();

export class Curves {
  constructor() {
    this.metric = null; // chosen by the person; otherwise the first that exists
    this.log = false;
    this.state = null;
    this.made = "";
    this.select = h("select.metric", { "aria-label": "metric", onchange: () => this.choose(this.select.value) });
    this.hint = h("span.hint");
    this.toggle = h(
      "button.chip",
      { type: "button", "aria-pressed": "false", onclick: () => this.flip() },
      "Log scale",
    );
    this.plotArea = h("div.plot", { role: "img" });
    this.legend = h("div.legend");
    const head = h("div.card-head", this.select, this.hint, h("span.grow"), this.toggle);
    this.element = h("section.card.curves", { "aria-label": "curves", hidden: true }, head, this.plotArea, this.legend);
    new ResizeObserver(() => this.plot && this.plot.setSize(this.size())).observe(this.plotArea);
    document.addEventListener("ml-intern:theme", () => this.draw(this.state));
  }

  choose(metric) {
    this.metric = metric;
    this.draw(this.state);
  }

  flip() {
    this.log = !this.log;
    this.toggle.setAttribute("aria-pressed", String(this.log));
    this.draw(this.state);
  }

  size() {
    return { width: Math.max(200, this.plotArea.clientWidth), height: HEIGHT };
  }

  draw(state) {
    this.state = state;
    const names = words.metricOrder(new Set(state?.runs.flatMap((job) => Object.keys(job.values)) ?? []));
    this.element.hidden = names.length === 0;
    if (names.length === 0) return;
    const metric = names.includes(this.metric) ? this.metric : names[0];
    this.offer(names, metric);
    const runs = state.runs.filter((job) => metric in job.values);
    const data = table(runs, metric, this.log);
    const made = JSON.stringify([metric, this.log, css("--bg"), runs.map((job) => job.job)]);
    if (this.plot && made === this.made) {
      Object.assign(this, { runs, data });
      this.plot.setData(data.columns);
    } else {
      this.build(runs, data, made);
    }
    this.describe(metric, runs);
    this.tell(null);
  }

  offer(names, metric) {
    const offered = names.join(" ");
    if (this.select.dataset.names !== offered) {
      this.select.replaceChildren(...names.map((name) => h("option", { value: name }, words.metric(name)[0])));
      this.select.dataset.names = offered;
    }
    this.select.value = metric;
    this.hint.textContent = words.metric(metric)[1];
  }

  build(runs, data, made) {
    this.plot?.destroy();
    Object.assign(this, { made, runs, data });
    const axis = {
      stroke: css("--faint"),
      font: "11px 'Inter Variable'",
      grid: { stroke: css("--line"), width: 1 },
      ticks: { show: false },
    };
    const options = {
      ...this.size(),
      legend: { show: false },
      cursor: { points: { size: 7 }, drag: { x: false, y: false } },
      scales: { x: { time: false }, y: { distr: this.log ? 3 : 1 } },
      axes: [
        { ...axis, size: 26, gap: 6 },
        {
          ...axis,
          size: (_, ticks) => room(ticks),
          values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : words.number(tick, 3))),
        },
      ],
      series: [
        {},
        ...runs.map((_, i) => ({
          stroke: colour(i),
          width: 2,
          dash: DASHES[i % DASHES.length],
          points: { show: false },
        })),
      ],
      hooks: { draw: [(plot) => this.marks(plot)], setCursor: [(plot) => this.tell(plot.cursor.idx ?? null)] },
      padding: [10, 12, 0, 0],
    };
    this.plot = new uPlot(options, data.columns, this.plotArea);
  }

  /** Findings as a line and a flag at their step; values that are not finite as a cross at the top. */
  marks(plot) {
    const { ctx, bbox } = plot;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.lineWidth = ratio;
    this.runs.forEach((job, i) => {
      for (const found of job.findings.filter((f) => f.level !== "info")) {
        const at = Math.round(plot.valToPos(found.step, "x", true));
        const x = Math.min(bbox.left + bbox.width, Math.max(bbox.left, at)); // a run may be stopped before its first point
        ctx.strokeStyle = ctx.fillStyle = css(found.level === "stop" ? "--bad" : "--accent");
        ctx.setLineDash([3 * ratio, 3 * ratio]);
        line(ctx, x, bbox.top, x, bbox.top + bbox.height);
        ctx.setLineDash([]);
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x + 9 * ratio, bbox.top + 4 * ratio);
        ctx.lineTo(x, bbox.top + 8 * ratio);
        ctx.fill();
      }
      ctx.strokeStyle = colour(i);
      ctx.lineWidth = 2 * ratio;
      for (const step of this.data.broken[i])
        cross(ctx, plot.valToPos(step, "x", true), bbox.top + 16 * ratio, 4 * ratio);
    });
    ctx.restore();
  }

  /** The legend: values under the cursor, or the latest. */
  tell(at) {
    const rows = this.runs.map((job, i) => {
      const value = at === null ? job.values[this.select.value] : this.data.columns[i + 1][at];
      const text = value === undefined || value === null ? "–" : words.number(value);
      return h("span.legend-run", swatch(i), h("span.mono", job.job), h("span.legend-value", text));
    });
    const flagged = this.runs.some((job) => job.findings.some((f) => f.level !== "info"));
    const flag = flagged ? h("span.legend-run.legend-flag", "⚑ finding") : null;
    this.legend.replaceChildren(...rows, ...(flag ? [flag] : []));
  }

  describe(metric, runs) {
    const each = runs.map((job) => `${job.job} ${words.number(job.values[metric])} at step ${job.step}`);
    this.plotArea.setAttribute("aria-label", `${words.metric(metric)[0]} by step: ${each.join(", ")}`);
  }
}

/** Columns for uPlot: steps, then each run. `undefined` is no point, and null a gap: a value that cannot be drawn. */
export function table(runs, metric, log) {
  const byStep = runs.map(
    (job) => new Map(job.points.filter((p) => metric in p.values).map((p) => [p.step, p.values[metric]])),
  );
  const steps = [...new Set(byStep.flatMap((points) => [...points.keys()]))].sort((a, b) => a - b);
  const drawable = (value) => words.finite(value) && (!log || value > 0);
  const column = (points) =>
    steps.map((step) => (points.has(step) ? (drawable(points.get(step)) ? points.get(step) : null) : undefined));
  const firsts = (points) =>
    [...points].filter(([, value], i, all) => !words.finite(value) && (i === 0 || words.finite(all[i - 1][1])));
  const broken = byStep.map((points) => firsts(points).map(([step]) => step));
  return { columns: [steps, ...byStep.map(column)], broken };
}

const room = (ticks) => 16 + 6.5 * Math.max(2, ...(ticks ?? []).map((tick) => tick.length)); // px for the longest label
const colour = (i) => css(`--run-${(i % 6) + 1}`);

function line(ctx, x1, y1, x2, y2) {
  ctx.beginPath();
  ctx.moveTo(x1, y1);
  ctx.lineTo(x2, y2);
  ctx.stroke();
}

function cross(ctx, x, y, r) {
  line(ctx, x - r, y - r, x + r, y + r);
  line(ctx, x - r, y + r, x + r, y - r);
}

function swatch(i) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "swatch");
  svg.setAttribute("viewBox", "0 0 22 4");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", "M0 2h22");
  path.style.stroke = `var(--run-${(i % 6) + 1})`;
  path.setAttribute("stroke-dasharray", DASHES[i % DASHES.length].join(" ") || "none");
  svg.append(path);
  return svg;
}
