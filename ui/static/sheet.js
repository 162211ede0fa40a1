// A dialog with a form: it closes when its work is done, and says in one sentence why when it is not.

import { h, view } from "./dom.js";

export const field = (label, hint, input) =>
  h("label.field", h("span.field-label", label), input, h("span.field-hint", hint));

/** What stands in a field for a number; null where it is empty. */
export const number = (text) => (text === "" ? null : Number(text));

/** Show a form. `send` gets its values as plain text by name; what it throws is shown, and the form stays. */
export function sheet({ title, body, action = "Save", danger = false, send }) {
  const problem = h("div.problem", { role: "alert", hidden: true });
  const submit = h(`button.primary${danger ? ".danger" : ""}`, { type: "submit" }, action);
  const cancel = h("button.plain", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const form = h("form.form", body, problem, h("div.form-buttons", cancel, submit));
  const dialog = h("dialog.sheet", { "aria-label": title }, h("h2", title), form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    try {
      await send(Object.fromEntries(new FormData(form)));
      dialog.close();
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    }
    submit.disabled = false;
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  view("drawer").append(dialog);
  dialog.showModal();
  return dialog;
}
