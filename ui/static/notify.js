// A browser notification when a decision waits or a session ends, for tabs that nobody looks at. Off until asked for.

import { api } from "./api.js";
import * as words from "./words.js";

const KEY = "ml-intern:notify";
const LOOK = 10_000; // ms; a hidden tab holds no stream, so it asks for the list of sessions

export class Notifier {
  constructor(opened) {
    this.opened = opened; // the id of the session that this tab shows
    this.known = null;
    setInterval(() => this.look(), LOOK);
    document.addEventListener("visibilitychange", () => document.hidden && this.look());
  }

  get on() {
    return localStorage.getItem(KEY) === "yes" && globalThis.Notification?.permission === "granted";
  }

  /** Switch it on or off. Throws when the browser does not allow it. */
  async flip() {
    if (this.on) {
      localStorage.removeItem(KEY);
      return;
    }
    if (!globalThis.Notification) throw new Error("This browser has no notifications for this page.");
    if ((await Notification.requestPermission()) !== "granted")
      throw new Error("The browser does not allow notifications here; allow them in its settings for this site.");
    localStorage.setItem(KEY, "yes");
  }

  /** While hidden: say what has come to wait or to an end since the last look. */
  async look() {
    const id = this.opened();
    if (!document.hidden || !this.on || !id) {
      this.known = null;
      return;
    }
    const session = (await api.sessions().catch(() => [])).find((one) => one.id === id);
    if (!session) return;
    const before = this.known;
    this.known = session.state;
    if (before === null || before === session.state || session.state === "working") return;
    const note = new Notification(words.clip(session.title, 80), { body: words.outcome(session.state)[0], tag: id });
    note.onclick = () => window.focus();
  }
}
