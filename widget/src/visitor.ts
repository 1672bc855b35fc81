// Who this browser is to the server: the visitor's token, and which conversation this tab is in.
// Knows no frames. The token is kept for the browser (one visitor, one judgement), the conversation for
// the tab (two tabs would fight over one stream). Invariant: nothing is read or written before it is asked for.

import type { Shelf } from "./outbox";

interface Token {
  readonly token: string;
  /** Milliseconds since the epoch, as is renewAt: half of its life later. */
  readonly expiresAt: number;
  readonly renewAt: number;
}

/** The page's storage, or memory where the browser forbids it. */
export function shelf(which: "localStorage" | "sessionStorage"): Shelf {
  try {
    const storage = window[which];
    storage.setItem("amends:probe", "1");
    storage.removeItem("amends:probe");
    return storage;
  } catch {
    const memory = new Map<string, string>();
    return {
      getItem: (key) => memory.get(key) ?? null,
      setItem: (key, value) => void memory.set(key, value),
      removeItem: (key) => void memory.delete(key),
    };
  }
}

/** The server refused a token, or could not be asked for one; `retryAfterS` is its hint. */
export class NoToken extends Error {
  constructor(
    message: string,
    readonly retryAfterS: number,
  ) {
    super(message);
  }
}

export class Visitor {
  private readonly browser = shelf("localStorage");
  private readonly tab: Shelf;
  private readonly tokenKey: string;
  private readonly conversationKey: string;
  private asking: Promise<string> | null = null;

  constructor(
    private readonly server: string,
    site: string,
    tab: Shelf,
  ) {
    this.tab = tab;
    this.tokenKey = `amends:${site}:token`;
    this.conversationKey = `amends:${site}:conversation`;
  }

  get conversationId(): string | null {
    return this.tab.getItem(this.conversationKey);
  }

  set conversationId(id: string | null) {
    if (id) this.tab.setItem(this.conversationKey, id);
    else this.tab.removeItem(this.conversationKey);
  }

  /** A valid token; asks the server for one, or for the same visitor's next one, in time. Throws NoToken. */
  token(): Promise<string> {
    const kept = this.kept();
    if (kept && Date.now() < kept.renewAt) return Promise.resolve(kept.token);
    this.asking ??= this.ask(kept).finally(() => (this.asking = null));
    return kept ? this.asking.catch(() => kept.token) : this.asking;
  }

  forgetToken(): void {
    this.browser.removeItem(this.tokenKey);
  }

  private kept(): Token | null {
    try {
      const kept = JSON.parse(this.browser.getItem(this.tokenKey) ?? "null") as Token | null;
      return kept && kept.token && kept.expiresAt > Date.now() ? kept : null;
    } catch {
      return null;
    }
  }

  private async ask(old: Token | null): Promise<string> {
    const headers: Record<string, string> = { "content-type": "application/json" };
    if (old) headers.authorization = `Bearer ${old.token}`;
    const url = new URL("v1/session", this.server);
    const answer = await fetch(url, { method: "POST", headers, body: "{}" }).catch(() => null);
    if (!answer?.ok) {
      const hint = Number(answer?.headers.get("retry-after")) || 0;
      throw new NoToken(`no visitor token: ${answer ? answer.status : "server not reached"}`, hint);
    }
    const { token, expires_at } = (await answer.json()) as { token: string; expires_at: number | string };
    const expiresAt = typeof expires_at === "number" ? expires_at * 1000 : Date.parse(expires_at);
    const renewAt = (Date.now() + expiresAt) / 2;
    this.browser.setItem(this.tokenKey, JSON.stringify({ token, expiresAt, renewAt }));
    return token;
  }
}
