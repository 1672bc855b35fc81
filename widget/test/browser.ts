// The little of a browser that code outside the page's elements needs: storage and timers, fresh for each test.

import type { Shelf } from "../src/outbox";

export class Memory implements Shelf {
  readonly kept = new Map<string, string>();
  getItem = (key: string): string | null => this.kept.get(key) ?? null;
  setItem = (key: string, value: string): void => void this.kept.set(key, value);
  removeItem = (key: string): void => void this.kept.delete(key);
}

/** Puts a `window` into the globals and returns its two storages. */
export function browser(): { readonly tab: Memory; readonly origin: Memory } {
  const [tab, origin] = [new Memory(), new Memory()];
  Object.assign(globalThis, { window: { sessionStorage: tab, localStorage: origin, setTimeout } });
  return { tab, origin };
}
