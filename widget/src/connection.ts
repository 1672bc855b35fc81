// One WebSocket to the server, made again whenever it breaks.
// Knows hello and the errors that come before a welcome; every other frame it only passes on.
// Invariant: at most one socket and one timer are alive, and none before start().

import { delayMs } from "./backoff";
import { parseFrame, PROTOCOL, type ClientFrame, type ServerFrame } from "./protocol";
import { NoToken, type Visitor } from "./visitor";

export type Link = "idle" | "connecting" | "ready" | "lost" | "outdated";

export interface Listener {
  frame(frame: ServerFrame): void;
  link(link: Link): void;
  /** The server does not know the conversation; position() must ask for a new one. */
  conversationGone(): void;
  position(): { conversation_id: string | null; after_seq: number | null };
}

const WELCOME_WITHIN_MS = 10_000;

export class Connection {
  private socket: WebSocket | null = null;
  private timer = 0;
  private attempt = 0;
  private hintS = 0;
  private welcomed = false;
  private running = false;
  /** Grows with every try, so that a slow one that was given up cannot come back. */
  private generation = 0;
  private readonly wake = (): void => {
    if (this.running && this.timer && document.visibilityState === "visible") this.connect();
  };

  constructor(
    private readonly server: string,
    private readonly visitor: Visitor,
    private readonly listener: Listener,
  ) {}

  start(): void {
    if (this.running) return;
    this.running = true;
    addEventListener("online", this.wake);
    document.addEventListener("visibilitychange", this.wake);
    this.connect();
  }

  stop(): void {
    this.running = false;
    removeEventListener("online", this.wake);
    document.removeEventListener("visibilitychange", this.wake);
    this.shut();
    this.listener.link("idle");
  }

  /** Leaves the present socket and says hello again at once. */
  again(): void {
    if (this.running) this.connect();
  }

  /** True if the frame went out; false means that the sender must wait for the next welcome. */
  send(frame: ClientFrame): boolean {
    if (!this.welcomed || this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(frame));
    return true;
  }

  private shut(): void {
    this.generation += 1;
    clearTimeout(this.timer);
    this.timer = 0;
    this.welcomed = false;
    this.socket?.close();
    this.socket = null;
  }

  private async connect(): Promise<void> {
    this.shut();
    const generation = this.generation;
    const current = (): boolean => generation === this.generation;
    this.listener.link("connecting");
    let token: string;
    try {
      token = await this.visitor.token();
    } catch (error) {
      if (error instanceof NoToken) this.hintS = error.retryAfterS;
      if (current()) this.later();
      return;
    }
    if (!current()) return;
    const url = new URL("v1/chat", this.server);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url);
    this.socket = socket;
    this.timer = window.setTimeout(() => current() && this.later(), WELCOME_WITHIN_MS);
    socket.onopen = () =>
      socket.send(JSON.stringify({ type: "hello", protocol: PROTOCOL, token, ...this.listener.position() }));
    socket.onmessage = (event) => {
      const frame = current() ? parseFrame(event.data) : null;
      if (frame) this.receive(frame);
    };
    socket.onclose = () => current() && this.later();
  }

  private receive(frame: ServerFrame): void {
    if (frame.type === "welcome") {
      clearTimeout(this.timer);
      this.timer = 0;
      this.attempt = 0;
      this.hintS = 0;
      this.welcomed = true;
      this.listener.frame(frame);
      this.listener.link("ready");
    } else if (frame.type === "error" && frame.code === "unauthorized") {
      this.visitor.forgetToken();
      this.later();
    } else if (frame.type === "error" && !this.welcomed) {
      this.refused(frame.code, frame.retry_after_s ?? 0);
    } else {
      this.listener.frame(frame);
    }
  }

  private refused(code: string, retryAfterS: number): void {
    if (code === "bad_protocol") {
      this.stop();
      this.listener.link("outdated");
      return;
    }
    if (code === "not_found") this.listener.conversationGone();
    this.hintS = retryAfterS;
    this.later();
  }

  private later(): void {
    this.shut();
    if (!this.running) return;
    this.listener.link("lost");
    const waitMs = Math.max(delayMs(this.attempt, Math.random()), this.hintS * 1000);
    this.attempt += 1;
    this.timer = window.setTimeout(() => this.connect(), waitMs);
  }
}
