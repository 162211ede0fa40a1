// Numbers for the curves: from the points of runs to columns over their steps. Pure.

import { finite } from "./words.js";

const known = new WeakMap(); // the points of a run -> metric -> what has been read of them: a new point costs O(1)

/** One metric of one run: `steps`, `values` (numbers, or "nan", "inf", "-inf" as logged), and the steps of `broken` ones. */
export function series(points, metric) {
  if (!known.has(points)) known.set(points, new Map());
  const metrics = known.get(points);
  if (!metrics.has(metric)) metrics.set(metric, { upto: 0, steps: [], values: [], broken: [] });
  const made = metrics.get(metric);
  for (; made.upto < points.length; made.upto += 1) {
    const { step, values } = points[made.upto];
    const last = made.steps.length - 1;
    if (!(metric in values) || step < made.steps[last]) continue; // a fact never goes back; a broken log may
    if (step === made.steps[last]) made.values[last] = values[metric];
    else {
      made.steps.push(step);
      made.values.push(values[metric]);
    }
    if (!finite(values[metric]) && made.broken[made.broken.length - 1] !== step) made.broken.push(step);
  }
  return made;
}

/** Exponential moving average with `weight` on the past, debiased as Adam's moments are; what is not finite stays out. */
export function smoothed(values, weight) {
  let past = 0;
  let count = 0;
  return values.map((value) => {
    if (!finite(value)) return value;
    count += 1;
    past = weight * past + (1 - weight) * value;
    return past / (1 - weight ** count);
  });
}

/** The position of the last of these rising numbers that is not above `step`; -1 when all are. */
export function before(steps, step) {
  let low = 0;
  let high = steps.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] <= step) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/**
 * Columns for uPlot: steps, then each run; with a `weight` each run twice, raw and smoothed.
 * `undefined` is no point of this run, and null a gap: a value that cannot be drawn.
 */
export function table(runs, metric, log, weight = 0) {
  const each = runs.map((job) => series(job.points, metric));
  const steps = union(each.map((one) => one.steps));
  const at = new Map(steps.map((step, i) => [step, i]));
  const drawable = (value) => (finite(value) && (!log || value > 0) ? value : null);
  const column = (own, values) => {
    const made = new Array(steps.length).fill(undefined);
    own.forEach((step, i) => (made[at.get(step)] = drawable(values[i])));
    return made;
  };
  const smooth = each.map((one) => (weight ? smoothed(one.values, weight) : one.values));
  const columns = each.flatMap((one, i) =>
    weight ? [column(one.steps, one.values), column(one.steps, smooth[i])] : [column(one.steps, one.values)],
  );
  return { columns: [steps, ...columns], each, smooth };
}

function union(lists) {
  const [first = [], ...rest] = [...lists].sort((a, b) => b.length - a.length);
  if (rest.every((list) => list.every((step, i) => step === first[i]))) return first.slice();
  return [...new Set(lists.flat())].sort((a, b) => a - b);
}

/** The first of each stretch of steps without a finite value. */
export function breaks(one) {
  const bad = new Set(one.broken);
  return one.broken.filter((step) => {
    const i = before(one.steps, step);
    return i <= 0 || !bad.has(one.steps[i - 1]);
  });
}

/** Lowest and highest finite value, or null. */
export function extremes(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (!finite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low === Infinity ? null : [low, high];
}
