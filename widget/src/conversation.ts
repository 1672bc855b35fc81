// One visitor's conversation on this page: joins visitor, connection, outbox, transcript and feedback.
// Knows no DOM beyond storage and network; the element draws what it finds here after each changed().
// Invariant: a message is in the outbox from the moment it is shown until its response is done or has failed.

import { Connection, type Link } from "./connection";
import { FeedbackSender, type Outcome } from "./feedback";
import { newId } from "./ids";
import { Outbox } from "./outbox";
import type { RatingValue, Reason, ServerFrame, ThumbValue } from "./protocol";
import * as transcripts from "./transcript";
import { shelf, Visitor } from "./visitor";

const RENEW_EVERY_MS = 60 * 60_000;

export class Conversation {
  transcript: transcripts.Transcript = transcripts.EMPTY;
  link: Link = "idle";
  /** What became of each judgement of this page, by the path it is PUT to. */
  readonly outcomes = new Map<string, Outcome>();

  private readonly visitor: Visitor;
  private readonly outbox: Outbox;
  private readonly connection: Connection;
  private readonly sender: FeedbackSender;
  private renewing = 0;

  constructor(
    server: string,
    site: string,
    private readonly changed: () => void,
  ) {
    const tab = shelf("sessionStorage");
    this.visitor = new Visitor(server, site, tab);
    this.outbox = new Outbox(tab, `amends:${site}:outbox`);
    this.sender = new FeedbackSender(server, this.visitor, this.outbox, (path, outcome) => this.told(path, outcome));
    this.connection = new Connection(server, this.visitor, {
      frame: (frame) => this.receive(frame),
      link: (link) => this.linked(link),
      conversationGone: () => this.gone(),
      position: () => ({ conversation_id: this.visitor.conversationId, after_seq: this.transcript.lastSeq }),
    });
    for (const { id, text } of this.outbox.messages) this.transcript = transcripts.queue(this.transcript, id, text);
    this.settle(); // one that is too long would close every connection anew
  }

  /** The message or response that is under way; the visitor says one thing at a time. */
  get live(): transcripts.Entry | undefined {
    return transcripts.liveEntry(this.transcript);
  }

  start(): void {
    this.connection.start();
    void this.sender.flush();
    clearInterval(this.renewing);
    this.renewing = window.setInterval(() => this.renew(), RENEW_EVERY_MS);
  }

  stop(): void {
    clearInterval(this.renewing);
    this.connection.stop();
  }

  reconnect(): void {
    this.connection.again();
  }

  say(text: string): void {
    const id = newId();
    const sendable = !transcripts.isTooLong(text);
    if (sendable) this.outbox.put({ kind: "message", id, text });
    this.become(transcripts.queue(this.transcript, id, text));
    if (sendable) this.connection.send({ type: "message", message_id: id, text });
  }

  sayAgain(entry: transcripts.Entry): void {
    // A response that failed under way is over; the server keeps its message_id, so this is a new message.
    const id = entry.responseId ? newId() : entry.id;
    this.outbox.put({ kind: "message", id, text: entry.message });
    this.become(transcripts.retry(this.transcript, entry.id, id));
    this.connection.send({ type: "message", message_id: id, text: entry.message });
  }

  takeBack(entry: transcripts.Entry): void {
    this.outbox.remove(entry.id);
    this.become(transcripts.drop(this.transcript, entry.id));
  }

  cancelResponse(): void {
    const responseId = this.live?.responseId;
    if (responseId) this.connection.send({ type: "cancel", response_id: responseId });
  }

  giveThumb(turnId: string, value: ThumbValue, reasons: readonly Reason[], comment: string): void {
    this.become(transcripts.setThumb(this.transcript, turnId, value));
    this.judge(thumbPath(turnId), { value, reasons, comment });
  }

  rate(value: RatingValue): void {
    if (!this.transcript.conversationId) return;
    this.become({ ...this.transcript, rating: value });
    this.judge(ratingPath(this.transcript.conversationId), { value });
  }

  startOver(): void {
    for (const { id } of this.outbox.messages) this.outbox.remove(id);
    this.visitor.conversationId = null;
    this.become({ ...transcripts.EMPTY, shop: this.transcript.shop });
    this.connection.again();
  }

  /** Who leaves the page open for a day is the same visitor afterwards. */
  private renew(): void {
    this.visitor.token().catch(() => undefined); // the connection tells who cannot reach the server
  }

  private judge(path: string, body: Record<string, unknown>): void {
    this.sender.add({ kind: "feedback", id: newId(), path, body });
  }

  private told(path: string, outcome: Outcome): void {
    this.outcomes.set(path, outcome);
    this.changed();
  }

  private receive(frame: ServerFrame): void {
    this.become(transcripts.apply(this.transcript, frame));
    if (frame.type === "welcome") this.welcomed(frame.conversation_id);
    this.settle();
    if (this.transcript.gap) {
      this.become({ ...this.transcript, lastSeq: null, gap: false });
      this.connection.again();
    }
  }

  private welcomed(conversationId: string): void {
    this.visitor.conversationId = conversationId;
    // The server tells the judgements that it has; those on their way to it count already.
    for (const { path, body } of this.outbox.feedback) {
      if (path === ratingPath(conversationId)) this.become({ ...this.transcript, rating: body.value as RatingValue });
      const turnId = this.transcript.entries.find((row) => row.turnId && thumbPath(row.turnId) === path)?.turnId;
      if (turnId) this.become(transcripts.setThumb(this.transcript, turnId, body.value as ThumbValue));
    }
    void this.sender.flush();
  }

  /** Keeps in the outbox what the transcript still waits for, and nothing else. */
  private settle(): void {
    for (const item of this.outbox.messages) {
      const entry = this.transcript.entries.find((row) => row.id === item.id);
      if (!entry || !transcripts.isLive(entry)) this.outbox.remove(item.id);
    }
  }

  private linked(link: Link): void {
    this.link = link;
    if (link === "ready") {
      for (const { id, text } of this.outbox.messages) {
        // Sending twice is harmless: the server knows the message_id, and answers with the same response.
        const followed = this.transcript.entries.some((row) => row.id === id && row.followed);
        if (!followed) this.connection.send({ type: "message", message_id: id, text });
      }
    }
    this.changed();
  }

  private gone(): void {
    this.visitor.conversationId = null;
    this.become(transcripts.detach(this.transcript));
  }

  private become(transcript: transcripts.Transcript): void {
    this.transcript = transcript;
    this.changed();
  }
}

export const thumbPath = (turnId: string): string => `v1/turns/${encodeURIComponent(turnId)}/thumb`;
export const ratingPath = (conversationId: string): string =>
  `v1/conversations/${encodeURIComponent(conversationId)}/rating`;
