// How a session begins: the first page, and the form for a new one.

import { api } from "./api.js";
import { h, icon } from "./dom.js";
import { field, number, sheet } from "./sheet.js";
import { APPROVALS, options } from "./steer.js";
import * as words from "./words.js";

const TASKS = [
  ["chains", "sums and differences of a few digits"],
  ["lists", "small jobs on lists"],
  ["gym:spell_backward", "one family of reasoning-gym"],
  ["table:/path/to/questions.csv", "your own questions and answers"],
];

/** On a Space nobody has files to point at. */
const tasks = ({ space }) =>
  TASKS.map(([task, about]) => [space ? task.replace("/path/to/questions.csv", "org/dataset") : task, about]);

/** The first page: the demo, a new session, and examples. */
export function hero(health, signIn, { create, go, fail }) {
  const demo = async (event) => {
    event.currentTarget.disabled = true;
    try {
      go((await api.demo()).session);
    } catch (error) {
      fail(error);
      event.target.disabled = false;
    }
  };
  const buttons = [
    h("button.primary.large", { type: "button", onclick: demo }, icon("play"), "Run the demo"),
    h("button.plain.large", { type: "button", onclick: () => create() }, icon("plus"), "New session"),
  ];
  const hint =
    "The demo trains the starter model on arithmetic chains here, with a fixed policy: no key, no GPU, no network, a few minutes.";
  const examples = tasks(health).map(([task, about]) =>
    h(
      "button.example",
      { type: "button", onclick: () => create({ task }) },
      h("span.mono", task),
      h("span.example-about", about),
    ),
  );
  return h(
    "div.hero",
    h("h2.hero-title", "What should the model learn?"),
    h(
      "p.hero-text",
      "Give a task and a model. ML Intern measures it, trains it, judges each idea on items that it never trained on, and writes a report of what it measured.",
    ),
    health.read_only
      ? signIn.ways()
      : [
          h("div.hero-buttons", buttons),
          h("p.hero-hint", hint),
          h("div.examples", { role: "group", "aria-label": "tasks" }, examples),
        ],
    recorded(),
    health.read_only ? null : firstRun(),
  );
}

/** Sessions that anybody may watch: those that ship with the program, and those that are shared. */
function recorded() {
  const place = h("div.recorded", { hidden: true });
  api.replays().then(
    (replays) => {
      const lines = replays.map((one) =>
        h("a.example", { href: `?replay=${encodeURIComponent(one.id)}` }, h("span", one.title), h("span.example-about", about(one))),
      );
      if (lines.length) place.append(h("h3", "Watch a session"), h("div.examples", lines));
      place.hidden = lines.length === 0;
    },
    () => {}, // the page does without
  );
  return place;
}

const about = (one) =>
  [
    words.outcome(one.outcome)[0],
    one.minutes ? `${Math.round(one.minutes)} min` : null,
    one.best == null ? null : `best ${one.best.toFixed(2)} ${one.split === "heldout" ? "held-out" : "on dev"}`,
  ]
    .filter(Boolean)
    .join(" · ");

const MARKS = { ok: "check", warn: "warn", bad: "cross", unknown: "info" };

/** What is there for a first session and what is missing; folded unless something is broken. */
function firstRun() {
  const place = h("details.firstrun", { hidden: true });
  api.check().then(
    (checks) => {
      const lines = checks.map((one) =>
        h(`li.${one.state}`, icon(MARKS[one.state]), h("b", one.name), h("span", one.what, one.fix && h("em", ` ${one.fix}`))),
      );
      const todo = checks.filter((one) => ["warn", "bad"].includes(one.state)).length;
      const bad = checks.some((one) => one.state === "bad");
      place.append(h("summary", todo ? `This machine: ${todo} to look at` : "This machine is ready"), h("ul", lines));
      place.open = bad;
      place.hidden = checks.length === 0;
    },
    () => {},
  );
  return place;
}

const input = (name, props) => h("input", { name, autocomplete: "off", ...props });
const decimal = (name, props) => input(name, { type: "number", min: "0.01", step: "0.01", inputmode: "decimal", ...props });

/** The form for a new session. It keeps what was written in it while it is closed. */
export class NewSession {
  constructor(health, opened) {
    this.opened = opened;
    this.text = h("textarea", {
      name: "text",
      rows: "3",
      placeholder: "Make the model solve chains of sums: at least 90 % of the held-out items right.",
    });
    const [where, folder] = health.space ? ["org/dataset", ""] : ["file", "a folder, "];
    this.body = [
      field("What do you want?", "in your words", this.text),
      field(
        "Task",
        `chains, lists, gym:<family>, or table:<${where}>`,
        input("task", { list: "ml-tasks", required: true, value: "chains" }),
      ),
      h("datalist", { id: "ml-tasks" }, tasks(health).map(([task, about]) => h("option", { value: task }, about))),
      field("Model", `${folder}a Hub id, or starter`, input("model", { required: true, value: "starter" })),
      h(
        "div.field-row",
        field("Target", "accuracy to reach, 0 to 1", decimal("target", { max: "1", placeholder: "none" })),
        field("Hours", "wall clock for all of it", decimal("hours", { value: "1" })),
      ),
      field(
        "Driver",
        `${words.driver("autopilot")}; or a model like anthropic/claude-sonnet-4-5`,
        input("driver", { value: health.driver, required: true }),
      ),
      field("Approval", "who says yes to a training", h("select", { name: "approval" }, options(APPROVALS.slice(0, 2), "auto"))),
    ];
  }

  show(preset = {}) {
    const send = (given) => this.send(given);
    const form = sheet({ title: "New session", body: this.body, action: "Start", send }).querySelector("form");
    for (const [name, value] of Object.entries(preset)) form.elements[name].value = value;
    this.text.focus();
  }

  async send(given) {
    const { session } = await api.open({ ...given, target: number(given.target), hours: number(given.hours) });
    this.opened(session);
  }
}
