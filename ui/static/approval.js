// The card that asks a person: what would run, what it costs, and the settings, which may be edited.

import { h } from "./dom.js";
import { argument, brief, dollars } from "./words.js";

/**
 * A card for one question of the gate; without buttons once it is answered. `decide(call, allow, arguments)` answers;
 * `spent` is what the session had cost when the gate asked.
 */
export function decision(asked, state, decide, spent = state.dollars) {
  const open = !state.decided.has(asked.call) && !state.finished.has(asked.call);
  const title = `${asked.name.replaceAll("_", " ").replace(/^./, (c) => c.toUpperCase())}: ${argument(asked.arguments)}`;
  const head = h("div.ask-head", h("span.ask-title", title), h("span.ask-price", dollars(asked.dollars)));
  const after =
    asked.dollars === null ? "" : ` Total after it: ${dollars(spent + asked.dollars)}${cap(state)}.`;
  const card = h(
    `div.ask.${open ? "open" : "over"}`,
    { role: "group", "aria-label": `Approve ${title}` },
    head,
    h("div.ask-why", asked.reason + after),
    h("div.ask-brief", brief(asked.arguments)),
  );
  if (!open) return card;
  const original = JSON.stringify(asked.arguments, null, 2);
  const editor = h("textarea.ask-edit", {
    rows: Math.min(12, original.split("\n").length),
    spellcheck: "false",
    "aria-label": "arguments as JSON",
  });
  editor.value = original;
  const problem = h("div.ask-problem", { role: "alert" });
  const answer = (allow) => {
    const edited = parse(editor.value);
    if (allow && edited === null) {
      problem.textContent = "The settings are not a JSON object; correct them or deny.";
      return;
    }
    card.querySelectorAll("button").forEach((button) => (button.disabled = true));
    const changed = allow && JSON.stringify(edited) !== JSON.stringify(asked.arguments);
    decide(asked.call, allow, changed ? edited : null).catch((error) => {
      problem.textContent = error.message;
      card.querySelectorAll("button").forEach((button) => (button.disabled = false));
    });
  };
  const approve = h(
    "button.primary.approve",
    { type: "button", onclick: () => answer(true) },
    "Approve",
    h("kbd", { "aria-hidden": "true" }, "⌘↵"),
  );
  const deny = h("button.plain", { type: "button", onclick: () => answer(false) }, "Deny");
  card.append(
    h("details.ask-settings", h("summary", "Settings"), editor),
    problem,
    h("div.ask-buttons", approve, deny),
  );
  return card;
}

function cap(state) {
  const limit = state.budget?.dollars;
  return limit === null || limit === undefined ? "" : ` of ${dollars(limit)}`;
}

function parse(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}
