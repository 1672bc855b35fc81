// Every sentence the widget says by itself, per language. A language is one object of type Strings: the
// compiler refuses one that misses a sentence. Knows no page; what the shop says comes from the server.

import { en } from "./languages/en";
import { de } from "./languages/de";

export type Strings = typeof en;

const LANGUAGES: Readonly<Record<string, Strings>> = { en, de };
const RIGHT_TO_LEFT = new Set(["ar", "fa", "he", "ur"]);

export interface Locale {
  readonly tag: string;
  readonly dir: "ltr" | "rtl";
  readonly strings: Strings;
}

/** The first of the wished languages that exists here ("de-AT" finds "de"), else English. */
export function localeFor(wishes: readonly (string | null | undefined)[]): Locale {
  for (const wish of wishes) {
    const tag = (wish ?? "").toLowerCase().split(/[-_]/)[0] ?? "";
    const strings = LANGUAGES[tag];
    if (strings) return { tag, dir: RIGHT_TO_LEFT.has(tag) ? "rtl" : "ltr", strings };
  }
  return { tag: "en", dir: "ltr", strings: en };
}
