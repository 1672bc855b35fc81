// Brings thumbs and ratings to the server: PUT with an idempotency key, again and again until it answers.
// Knows no page. Invariant: an item leaves the outbox only when the server has stored or refused it.

import { delayMs } from "./backoff";
import type { Outbox, QueuedFeedback } from "./outbox";
import { NoToken, type Visitor } from "./visitor";

export type Outcome = "sending" | "saved" | "refused";

const TRY_AGAIN = new Set([401, 408, 425, 429]);

/** What an HTTP status means for an item. */
export function outcomeOf(status: number): "saved" | "refused" | "later" {
  if (status >= 200 && status < 300) return "saved";
  return status >= 500 || TRY_AGAIN.has(status) ? "later" : "refused";
}

export class FeedbackSender {
  private flushing = false;
  private attempt = 0;
  private timer = 0;

  constructor(
    private readonly server: string,
    private readonly visitor: Visitor,
    private readonly outbox: Outbox,
    private readonly told: (path: string, outcome: Outcome) => void,
  ) {}

  add(item: QueuedFeedback): void {
    this.outbox.put(item);
    this.told(item.path, "sending");
    void this.flush();
  }

  /** Sends what is waiting, oldest first; comes back by itself after a failure. */
  async flush(): Promise<void> {
    if (this.flushing) return;
    this.flushing = true;
    clearTimeout(this.timer);
    let item: QueuedFeedback | undefined;
    try {
      while ((item = this.outbox.feedback[0])) {
        const status = await this.put(item);
        const outcome = outcomeOf(status);
        if (outcome === "later") {
          if (status === 401) this.visitor.forgetToken();
          break;
        }
        this.attempt = 0;
        this.outbox.remove(item.id);
        const newer = this.outbox.feedback.some((other) => other.path === item?.path);
        if (!newer) this.told(item.path, outcome);
      }
    } finally {
      // Also after what nobody expected (a proxy's page instead of JSON): what waits is sent later.
      this.flushing = false;
      if (item) this.timer = window.setTimeout(() => this.flush(), delayMs(this.attempt++, Math.random()));
    }
  }

  private async put(item: QueuedFeedback): Promise<number> {
    try {
      const headers = {
        authorization: `Bearer ${await this.visitor.token()}`,
        "content-type": "application/json",
        "idempotency-key": item.id,
      };
      const url = new URL(item.path, this.server);
      // keepalive: who rates often closes the page with the same movement.
      return (await fetch(url, { method: "PUT", headers, body: JSON.stringify(item.body), keepalive: true })).status;
    } catch (error) {
      // fetch answers a TypeError when the network is down; both mean "not now".
      if (error instanceof NoToken || error instanceof TypeError) return 503;
      throw error;
    }
  }
}
