// On a phone one pane is shown at a time: the transcript or the work.

import { h, icon, view } from "./dom.js";

export function pane(name) {
  document.body.dataset.pane = name;
  for (const button of view("switch").querySelectorAll("button"))
    button.setAttribute("aria-pressed", String(button.dataset.pane === name));
}

export function switcher() {
  const make = (name, label, mark) =>
    h("button.switch", { type: "button", "data-pane": name, onclick: () => pane(name) }, icon(mark), label);
  view("switch").replaceChildren(
    h("nav.switches", { "aria-label": "panes" }, make("chat", "Chat", "chat"), make("work", "Work", "chart")),
  );
  pane("chat");
}
