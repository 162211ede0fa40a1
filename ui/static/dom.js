// Elements without markup: text is always text, so nothing that a dataset or a model wrote can become HTML.

/** h("div.card.open", {title, onclick, "aria-live"}, ...children); children are nodes, strings, or null. */
export function h(spec, props, ...children) {
  const [tag, ...classes] = spec.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  if (props instanceof Node || typeof props === "string" || Array.isArray(props)) {
    children.unshift(props);
    props = null;
  }
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

const PATHS = {
  check: "M4 10.5l4 4 8-9",
  cross: "M5 5l10 10M15 5L5 15",
  circle: "M10 3.5a6.5 6.5 0 1 0 0 13a6.5 6.5 0 0 0 0-13z",
  minus: "M5 10h10",
  chevron: "M7.5 5l5 5-5 5",
  send: "M4 4l13 6-13 6 2.5-6zM6.5 10H12",
  stop: "M6 6h8v8H6z",
  moon: "M16 11.5A6.5 6.5 0 1 1 8.500 4a5.200 5.200 0 0 0 7.500 7.500z",
  sun: "M10 7a3 3 0 1 0 0 6a3 3 0 0 0 0-6zM10 2.500v1.500M10 16v1.500M2.500 10H4M16 10h1.500M4.700 4.700l1 1M14.300 14.300l1 1M15.300 4.700l-1 1M5.700 14.300l-1 1",
  menu: "M3.500 6h13M3.500 10h13M3.500 14h13",
  plus: "M10 4v12M4 10h12",
  chat: "M3.500 4.500h13v9H8.500l-3 3v-3h-2z",
  chart: "M3.500 3.500v13h13M6.500 12.500l3-4 2.500 2 4-5",
  file: "M5.500 2.500h6l3.500 3.500v11.500H5.500zM11.500 2.500V6H15",
  cube: "M10 2.500l6.500 3.750v7.500L10 17.500l-6.500-3.750v-7.500zM3.500 6.250L10 10l6.500-3.750M10 10v7.500",
  terminal: "M4 6l4 4-4 4M10 14.500h6",
  pencil: "M4 16l1-4 8.500-8.500 3 3L8 15z",
  search: "M9 4a5 5 0 1 0 0 10a5 5 0 0 0 0-10zM12.800 12.800L17 17",
  scale: "M10 3v14M5.500 17h9M4 6.500h12M4 6.500l-2 5h4zM16 6.500l-2 5h4z",
  clock: "M10 3a7 7 0 1 0 0 14a7 7 0 0 0 0-14zM10 6v4l3 2",
  list: "M7.500 5.500h9M7.500 10h9M7.500 14.500h9M3.500 5.500h.5M3.500 10h.5M3.500 14.500h.5",
  table: "M3.500 4.500h13v11h-13zM3.500 8.500h13M8.500 4.500v11",
  flag: "M5 17.500v-14h9l-1.500 3.500L14 10.500H5",
  play: "M6 4l10 6-10 6z",
  pause: "M7 5v10M13 5v10",
  next: "M4.5 5l8 5-8 5zM15.500 5v10",
  warn: "M10 3.500l7.500 13h-15zM10 8v4M10 14.200v.3",
  info: "M10 3a7 7 0 1 0 0 14a7 7 0 0 0 0-14zM10 9v4.500M10 6.400v.3",
  download: "M10 3v9M6 8.500l4 4 4-4M4 16.500h12",
  share: "M10 12V3M6.500 6L10 2.500 13.500 6M4.500 9.500v7h11v-7",
  fork: "M10 17v-6M10 11c0-3-4.500-2.500-4.500-6.500M10 11c0-3 4.500-2.500 4.500-6.500M3 6.500l2.500-2.500L8 6.500M12 6.500l2.500-2.500L17 6.500",
  compact: "M4 3.500h12M4 16.500h12M10 3.500v4.500M7.500 5.800L10 8.300l2.500-2.500M10 16.500V12M7.500 14.200L10 11.700l2.500 2.500",
  up: "M10 16V4.500M5 9.500l5-5 5 5",
  more: "M5 10h.01M10 10h.01M15 10h.01",
  spark: "M10 3l1.700 5.300L17 10l-5.300 1.700L10 17l-1.700-5.300L3 10l5.300-1.700z",
};

/** One path, as an <svg> that is hidden from screen readers. */
export function drawing(classes, viewBox, d) {
  const [svg, path] = ["svg", "path"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  for (const [name, value] of Object.entries({ class: classes, viewBox, "aria-hidden": "true" })) svg.setAttribute(name, value);
  path.setAttribute("d", d);
  svg.append(path);
  return svg;
}

/** A line icon. */
export const icon = (name, extra = "") => drawing(`icon ${extra}`.trim(), "0 0 20 20", PATHS[name] ?? PATHS.circle);

/** A <details> that puts what `make` makes into `inside` when it is first opened. */
export function unfolding(spec, summary, inside, make, open) {
  const fill = () => inside.childElementCount || inside.append(...make());
  if (open) fill();
  const details = h(spec, { ontoggle: () => details.open && fill(), open }, summary, inside);
  return details;
}

/** A table that can be scrolled with the keyboard, from the cells of its head and its rows. */
export const tabular = (label, head, rows, { spec = "div.table", caption = null } = {}) =>
  h(spec, { tabindex: 0, role: "group", "aria-label": label }, h("table", caption, h("thead", h("tr", head)), h("tbody", rows)));

/** The button that shows all `count` lines of a text of which `pre` has a part; `draw` puts them there. */
export function allOf(count, pre, draw) {
  const press = () => {
    draw();
    button.remove();
    pre.focus();
  };
  const button = h("button.link.more", { type: "button", onclick: press }, `Show all ${count.toLocaleString("en")} lines`);
  return button;
}

/** The element of a live view. */
export const view = (name) => document.querySelector(`[data-view="${name}"]`);

/** Put children into an element, but only when what they are made of has changed. */
export function redraw(element, key, make) {
  const text = JSON.stringify(key);
  if (element.dataset.drawn === text) return;
  element.dataset.drawn = text;
  element.replaceChildren(...[make()].flat().filter((child) => child !== null && child !== undefined));
}
