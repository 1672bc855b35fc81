// What the script tag does: registers the elements, and adds <amends-chat> to a page that has none.
// The tag's data-* attributes become the element's: data-site, data-server, data-contact, data-suggestions,
// data-locale, data-theme.

const NAME = "amends-chat";

// currentScript is null for a module: then the element's attributes say everything.
const script = document.currentScript instanceof HTMLScriptElement ? document.currentScript : null;

async function define(): Promise<void> {
  // import() so that a second script tag does not run what is below once more: a page's Trusted Types
  // allow each policy, and Lit's is one, to be made only once.
  const [{ AmendsChat }, { AmendsThumb }] = await Promise.all([import("./element"), import("./thumb")]);
  if (script?.src) AmendsChat.scriptServer = new URL("..", script.src).href;
  customElements.define("amends-thumb", AmendsThumb);
  customElements.define(NAME, AmendsChat);
}

function add(settings: DOMStringMap): void {
  if (document.querySelector(NAME)) return;
  const element = document.createElement(NAME);
  for (const [name, value] of Object.entries(settings)) if (value) element.setAttribute(name, value);
  document.body.append(element);
}

// A page that carries the tag twice keeps the first.
if (!customElements.get(NAME)) {
  const settings = script?.dataset ?? {};
  void define().then(() => {
    if (document.body) add(settings);
    else addEventListener("DOMContentLoaded", () => add(settings), { once: true });
  });
}
