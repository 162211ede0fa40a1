// The window of the transcript. Every entry is known, as a function that makes its element; elements exist for the newest
// ones only. Older ones are made as the person scrolls up, so that a session of any length opens as fast as a short one.

import { h, icon } from "./dom.js";

const FIRST = 40; // rows and blocks that are made when a session opens: two tall screens
const CHUNK = 16; // older rows and blocks that are made at a time
const CARD = 30; // rows in one card: a card is made whole
const MOST = 240; // entries that stay in the page while the person is at the end
const SLICE = 8; // ms of making at a time, so that no task comes near the 50 ms that a person feels
const NEAR = 48; // px from the end that still count as the end

/** One thing of the transcript. `make` reads the newest state, so an entry that nobody saw needs no update. */
export class Entry {
  constructor(make) {
    Object.assign(this, { make, element: null });
  }

  get size() {
    return 1;
  }

  build() {
    this.element ??= this.make();
    return this.element;
  }

  /** Make it anew if it was made at all. What a person opened stays open, and the keyboard stays where it is. */
  refresh(make = this.make) {
    this.make = make;
    const old = this.element;
    if (!old) return;
    this.element = make();
    if (old.open && this.element.tagName === "DETAILS") {
      this.element.open = true;
      this.element.dispatchEvent(new Event("toggle")); // its own comes a frame later, and the body would blink
    }
    const focused = old.contains(document.activeElement) && document.activeElement.tagName;
    old.replaceWith(this.element);
    if (focused) this.element.querySelector(focused)?.focus({ preventScroll: true });
  }
}

class Card extends Entry {
  constructor() {
    super(() => h("div.rows", this.rows.map((row) => row.build())));
    this.rows = [];
  }

  get size() {
    return this.rows.length;
  }

  add(row) {
    this.rows.push(row);
    this.element?.append(row.build());
  }
}

export class Transcript {
  /** Grows in `list`, inside `scroller`. [from, to) are the entries that are in the page. */
  constructor(scroller, list) {
    Object.assign(this, { scroller, list, entries: [], from: 0, to: 0, atEnd: true, top: 0, making: null });
    this.count = h("span.num");
    const label = [icon("up"), h("span", "Show the beginning"), h("span.sr", ": "), this.count];
    this.earlier = h("button.earlier", { type: "button", hidden: true, onclick: () => this.beginning() }, label);
    this.typed = h("div.typed", { hidden: true });
    scroller.replaceChildren(this.earlier, list, this.typed);
    scroller.addEventListener("scroll", () => this.moved(), { passive: true });
    const sizes = new ResizeObserver(() => this.atEnd && this.follow());
    for (const element of [scroller, list, this.typed]) sizes.observe(element);
  }

  put(make) {
    const entry = new Entry(make);
    this.entries.push(entry);
    return entry;
  }

  /** Put a row into the card at the end, or into a new one. */
  putRow(make) {
    const last = this.entries.at(-1);
    const open = last instanceof Card && last.size < CARD;
    const card = open ? last : new Card();
    if (!open) this.entries.push(card);
    const row = new Entry(make);
    card.add(row);
    return row;
  }

  /** Bring what is new into the page. After a burst, a person at the end gets the newest only. */
  flush() {
    const start = this.back(this.entries.length, FIRST);
    if (this.atEnd && start > this.to) {
      this.list.replaceChildren();
      this.from = this.to = start;
    }
    const until = performance.now() + SLICE;
    while (this.to < this.entries.length && (this.atEnd || performance.now() < until)) {
      const element = this.entries[this.to].build();
      this.list.append(element);
      this.settle([element]);
      this.to += 1;
    }
    if (this.to < this.entries.length) setTimeout(() => this.flush(), 0);
    this.trim();
    this.tell();
    this.fill();
  }

  /** The entry from which there are about `units` rows and blocks up to `index`. */
  back(index, units) {
    let from = index;
    for (let sum = 0; from > 0 && sum < units; from -= 1) sum += this.entries[from - 1].size;
    return from;
  }

  /** The browser may leave an element out of sight unpainted, but only once it knows its size: then nothing jumps. */
  settle(elements) {
    requestAnimationFrame(() => requestAnimationFrame(() => elements.forEach((one) => one.classList.add("laid"))));
  }

  /** A long live session must not grow the page without end. What leaves it keeps its element, opened rows and all. */
  trim() {
    if (!this.atEnd || this.making || this.to - this.from <= MOST) return;
    while (this.to - this.from > MOST / 2) {
      this.entries[this.from].element.remove();
      this.from += 1;
    }
  }

  /** Rows and blocks before those that are in the page. */
  get left() {
    return this.entries.slice(0, this.from).reduce((sum, entry) => sum + entry.size, 0);
  }

  tell() {
    this.earlier.hidden = this.from === 0;
    this.count.textContent = `${this.left.toLocaleString("en")} earlier`;
  }

  /** Keep two screens ready above what the person sees, and the rest of it when that is little. */
  fill() {
    if (this.making || this.from === 0) return;
    if (this.scroller.clientHeight === 0) return; // left, or behind the other pane of a phone: nobody scrolls here
    if (this.scroller.scrollTop > 2 * this.scroller.clientHeight && this.left > FIRST) return;
    this.making = setTimeout(() => {
      this.making = null;
      this.older();
      this.fill();
    }, 0);
  }

  /** Put older entries above, and leave what the person sees where it is. */
  older() {
    const first = this.list.firstElementChild;
    const before = first?.getBoundingClientRect().top;
    const fresh = this.take(CHUNK);
    this.silently(() => this.list.prepend(...fresh));
    this.tell();
    if (this.atEnd) this.follow();
    else if (first) this.scroller.scrollTop += first.getBoundingClientRect().top - before;
    this.top = this.scroller.scrollTop;
    this.settle(fresh);
  }

  take(units) {
    const until = performance.now() + SLICE;
    const fresh = [];
    for (let sum = 0; this.from > 0 && sum < units && performance.now() < until; ) {
      this.from -= 1;
      sum += this.entries[this.from].size;
      fresh.unshift(this.entries[this.from].build());
    }
    return fresh;
  }

  /** Old words are no news: a screen reader must not read them out as they come. */
  silently(change) {
    this.list.setAttribute("aria-live", "off");
    change();
    setTimeout(() => this.list.setAttribute("aria-live", "polite"), 500);
  }

  /** Make all that is earlier, a slice at a time, and go to the first of it. */
  beginning() {
    this.atEnd = false;
    clearTimeout(this.making);
    this.making = setTimeout(() => {
      if (!this.scroller.isConnected) return;
      const fresh = this.take(Infinity);
      fresh.forEach((one) => one.classList.add("laid"));
      this.silently(() => this.list.prepend(...fresh));
      this.tell();
      if (this.from > 0) return this.beginning();
      this.making = null;
      this.atEnd = false; // the growing list may have been scrolled along with its end
      this.scroller.scrollTop = this.top = 0;
      this.scroller.focus({ preventScroll: true }); // the button that had it is gone
    }, 0);
  }

  follow() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  /** Growing content moves the end away; only a person moves the view up. */
  moved() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    if (clientHeight === 0) return;
    if (scrollHeight - scrollTop - clientHeight < NEAR) this.atEnd = true;
    else if (scrollTop < this.top) this.atEnd = false;
    this.top = scrollTop;
    this.fill();
  }
}
