// Formulas: their source at once, MathML when Temml is there. Temml builds nodes, and with `trust` off it makes no links,
// images, classes or styles of the author's. It needs no fonts but one of 9 kB, where KaTeX brings sixty.

import { h } from "./dom.js";

const LONGEST = 4000; // characters; what is longer stays source
const LIMITS = { trust: false, strict: false, throwOnError: true, maxSize: [20, 200], maxExpand: 200 };
const at = (name) => new URL(`./vendor/temml/${name}`, import.meta.url).href;
let library = null;

/** Load Temml once; it is a classic script, so it makes a global. */
function temml() {
  library ??= new Promise((done, fail) => {
    const script = h("script", { src: at("temml.min.js"), onload: () => done(window.temml), onerror: fail });
    document.head.append(h("link", { rel: "stylesheet", href: at("Temml-Local.css") }), script);
  });
  return library;
}

/** A formula as an element: a block for itself with `display`. */
export function maths(source, display = false) {
  const element = display
    ? h("div.maths", { tabindex: 0, role: "group", "aria-label": "formula" }, h("code", source))
    : h("span.maths", h("code", source));
  if (source.length > LONGEST) return element;
  temml()
    .then((lib) => {
      const fresh = h("span");
      lib.render(source, fresh, { ...LIMITS, displayMode: display, macros: {} });
      element.replaceChildren(...fresh.childNodes);
    })
    .catch(() => {}); // what is no formula, or has no library, stays as it was written
  return element;
}
