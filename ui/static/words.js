// Numbers and names as people read them. Pure.

export const finite = (value) => typeof value === "number" && Number.isFinite(value);

export function seconds(s) {
  if (!finite(s)) return "";
  if (s < 0.05) return "0 s";
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400)
    return Math.round(s % 60) % 60 ? `${Math.floor(s / 60)} min ${Math.round(s % 60)} s` : `${Math.round(s / 60)} min`;
  return `${Number((s / 3600).toFixed(1))} h`;
}

/** The time of day of a moment (ms), where the reader is. */
export const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

export function number(value, digits = 4) {
  if (!finite(value)) return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e5)
    ? value.toExponential(1)
    : String(Number(value.toPrecision(digits)));
}

export const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;
export const dollars = (value) =>
  !finite(value) ? "price unknown" : value > 0 && value < 0.005 ? "under $0.01" : `$${value.toFixed(2)}`;
export const driver = (name) => (name === "autopilot" ? "Autopilot: a fixed policy, no LLM" : name);
export const model = (path) => String(path).split("/").filter(Boolean).slice(-2).join("/");

export const clip = (text, length) => (text.length <= length ? text : `${text.slice(0, length - 1)}…`);

/** The one argument of a call that says most. */
export function argument(args) {
  const order = ["command", "offered", "recipe", "idea", "path", "file", "job", "name", "text", "query"];
  const key = order.find((name) => typeof args[name] === "string" && args[name]);
  const value = key ? args[key] : Object.values(args).find((v) => typeof v === "string" || typeof v === "number");
  if (value !== undefined) return clip(String(value).replace(/\s+/g, " "), 120);
  const first = Object.values(args)[0];
  return first === undefined ? "" : clip(JSON.stringify(first), 120);
}

/** The terms of a session that a person changed, in one line. */
export function terms(fact) {
  const named = ["approval", "driver", "effort"].filter((name) => fact[name]).map((name) => `${name} ${fact[name] === "default" ? "the model's own" : fact[name]}`);
  const caps = Object.entries(fact.budget ?? {}).map(([name, cap]) => `${name} ${cap ?? "no cap"}`);
  return [...named, ...caps].map((term) => term.replaceAll("_", " ")).join(", ");
}

/** The settings of a call in one line: name=value, nested ones by their last name. */
export function brief(args) {
  const leaves = (value, name) =>
    value !== null && typeof value === "object"
      ? Object.entries(value).flatMap(([key, v]) => leaves(v, key))
      : [`${name}=${value}`];
  return clip(leaves(args, "").join(" "), 200);
}

/** In two words, why a job that has no other before it does not train: by its reason. */
export const held = (why) => (/ memory/.test(why) ? "waits for memory" : /has ended/.test(why) ? "finishing" : "being set up");

const SETTINGS = { lr: "a learning rate", beta: "a KL penalty (beta)" };

/** What a finding has offered to try, a line for each run; a replay may hold less than the offer. */
export const offer = (changes) =>
  (Array.isArray(changes) ? changes : [])
    .map((one) => Object.entries(one).map(([name, value]) => `${SETTINGS[name] ?? name.replaceAll("_", " ")} of ${number(value)}`))
    .filter((said) => said.length)
    .map((said, i) => `Offered ${i + 1}: the same run with ${said.join(" and ")}`);

export const compact = (value) =>
  new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(value);

const METRICS = {
  loss: ["Loss", "lower is better"],
  eval_loss: ["Eval loss", "lower is better"],
  mean_token_accuracy: ["Token accuracy", "higher is better"],
  eval_mean_token_accuracy: ["Eval token accuracy", "higher is better"],
  accuracy_so_far: ["Accuracy so far", "higher is better"],
  reward: ["Reward", "higher is better"],
  kl: ["KL", "distance from the start"],
  entropy: ["Entropy", ""],
  grad_norm: ["Gradient norm", ""],
  learning_rate: ["Learning rate", ""],
  gpu_util: ["GPU in use", "percent"],
  gpu_memory_gb: ["GPU memory", "GB"],
  cpu_util: ["CPU in use", "percent"],
  memory_gb: ["Memory", "GB"],
};
export const metric = (name) => METRICS[name] ?? [name.replaceAll("_", " "), ""];
export const metricOrder = (names) => {
  const known = Object.keys(METRICS);
  const rank = (name) => (known.includes(name) ? known.indexOf(name) : known.length);
  return [...names].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
};

export const OUTCOMES = {
  done: ["Done", "good"],
  needs_person: ["Needs you", "wait"],
  out_of_budget: ["Budget used up", "wait"],
  provider_failed: ["Provider failed", "bad"],
  stopped: ["Stopped", "quiet"],
  failed: ["Failed", "bad"],
  working: ["Working", "busy"],
  "waiting for you": ["Waiting for you", "wait"],
};
export const outcome = (name) => OUTCOMES[name] ?? [name, "quiet"];
export const JOB_STATES = {
  done: ["Done", "quiet"],
  failed: ["Failed", "bad"],
  cancelled: ["Cancelled", "quiet"],
  timeout: ["Out of time", "bad"],
};
