// What the visitor sees of the conversation, as a value that frames turn into the next value.
// Knows no socket, no page and no clock. Invariants: a frame is applied once, whatever is replayed;
// an entry gets its turn_id, and with it its thumbs, only from the server.

import {
  MAX_MESSAGE_BYTES,
  type Accepted,
  type Done,
  type ErrorFrame,
  type RatingValue,
  type ServerFrame,
  type Source,
  type StoredTurn,
  type ThumbValue,
  type Welcome,
} from "./protocol";

export type Status = "queued" | "waiting" | "streaming" | "done" | "failed";

export interface Failure {
  readonly code: string;
  readonly retryAfterS: number;
}

export interface Entry {
  /** The message_id, or the turn_id of a turn that the server told of. */
  readonly id: string;
  readonly message: string;
  readonly response: string;
  readonly status: Status;
  readonly responseId: string | null;
  readonly turnId: string | null;
  readonly sources: readonly Source[];
  readonly thumb: ThumbValue | null;
  readonly finishReason: string;
  readonly failure: Failure | null;
  /** True when every frame of the response since `accepted` was seen, so that none must be asked for. */
  readonly followed: boolean;
}

export interface Transcript {
  readonly conversationId: string | null;
  readonly shop: { readonly name: string; readonly greeting: string } | null;
  readonly entries: readonly Entry[];
  readonly rating: RatingValue | null;
  /** seq of the last frame applied; null: the server must send all turns. */
  readonly lastSeq: number | null;
  /** True when frames were lost: say hello again with after_seq null. */
  readonly gap: boolean;
}

export const EMPTY: Transcript = {
  conversationId: null,
  shop: null,
  entries: [],
  rating: null,
  lastSeq: null,
  gap: false,
};

export const isLive = ({ status }: Entry): boolean =>
  status === "queued" || status === "waiting" || status === "streaming";
export const liveEntry = (transcript: Transcript): Entry | undefined => transcript.entries.find(isLive);

function entry(id: string, message: string, rest: Partial<Entry>): Entry {
  return {
    id,
    message,
    response: "",
    status: "queued",
    responseId: null,
    turnId: null,
    sources: [],
    thumb: null,
    finishReason: "stop",
    failure: null,
    followed: false,
    ...rest,
  };
}

function stored({ turn_id, message, response, sources, thumb, finish_reason }: StoredTurn): Entry {
  return entry(turn_id, message, { response, sources, thumb, turnId: turn_id, status: "done", finishReason: finish_reason });
}

function change(transcript: Transcript, which: (row: Entry) => boolean, to: Partial<Entry>): Transcript {
  return { ...transcript, entries: transcript.entries.map((row) => (which(row) ? { ...row, ...to } : row)) };
}

export const isTooLong = (message: string): boolean => new TextEncoder().encode(message).length > MAX_MESSAGE_BYTES;

/** The visitor sent a message; one that must not leave the page, because it is too long, has failed already. */
export function queue(transcript: Transcript, id: string, message: string): Transcript {
  const failure = { code: "message_too_long", retryAfterS: 0 };
  const rest: Partial<Entry> = isTooLong(message) ? { status: "failed", failure } : {};
  return { ...transcript, entries: [...transcript.entries, entry(id, message, rest)] };
}

/** A failed message tries again under `newId` (its own one if the server never accepted it). */
export function retry(transcript: Transcript, id: string, newId: string): Transcript {
  const fresh = { id: newId, status: "queued", failure: null, response: "", responseId: null, followed: false } as const;
  return change(transcript, (row) => row.id === id, fresh);
}

export function drop(transcript: Transcript, id: string): Transcript {
  return { ...transcript, entries: transcript.entries.filter((row) => row.id !== id) };
}

export function setThumb(transcript: Transcript, turnId: string, thumb: ThumbValue | null): Transcript {
  return change(transcript, (row) => row.turnId === turnId, { thumb });
}

/** The server no longer knows the conversation: what was said stays to be read, but not to be judged. */
export function detach(transcript: Transcript): Transcript {
  const unsent = { status: "queued", response: "", responseId: null, followed: false } as const;
  const entries = transcript.entries.map((row) => ({ ...row, ...(isLive(row) ? unsent : { turnId: null, thumb: null }) }));
  return { ...EMPTY, shop: transcript.shop, entries };
}

function welcome(transcript: Transcript, frame: Welcome): Transcript {
  const { conversation_id, shop, rating, seq } = frame;
  const next = { ...transcript, conversationId: conversation_id, shop, rating, gap: false };
  if (!frame.missed) return { ...next, lastSeq: transcript.lastSeq ?? seq };
  const earlier = transcript.entries.filter((row) => row.status === "done" && !row.turnId);
  const open = transcript.entries
    .filter((row) => row.status !== "done")
    .map((row) => (isLive(row) ? { ...row, followed: false } : row));
  return { ...next, lastSeq: seq, entries: [...earlier, ...frame.turns.map(stored), ...open] };
}

function accepted(transcript: Transcript, frame: Accepted): Transcript {
  const found = transcript.entries.find((row) => row.id === frame.message_id);
  if (found?.followed && found.responseId === frame.response_id) return transcript;
  const start = { status: "waiting", responseId: frame.response_id, response: "", followed: true } as const;
  if (found) return change(transcript, (row) => row === found, start);
  // Another window of the conversation asked, or this one before a reload.
  return { ...transcript, entries: [...transcript.entries, entry(frame.message_id, frame.text, start)] };
}

function done(transcript: Transcript, frame: Done): Transcript {
  const found = transcript.entries.find((row) => row.responseId === frame.response_id);
  if (!found) return transcript;
  // The turn of a message that was sent twice may be here already, from a welcome.
  if (transcript.entries.some((row) => row !== found && row.turnId === frame.turn_id)) return drop(transcript, found.id);
  return change(transcript, (row) => row === found, {
    status: "done",
    turnId: frame.turn_id,
    sources: frame.sources,
    finishReason: frame.finish_reason,
  });
}

function failed(transcript: Transcript, frame: ErrorFrame): Transcript {
  const failure = { code: frame.code, retryAfterS: frame.retry_after_s ?? 0 };
  const names = (row: Entry): boolean =>
    (frame.response_id !== null && row.responseId === frame.response_id) || row.id === frame.message_id;
  // An error without ids can only be about the one message that is under way.
  const anonymous = frame.response_id === null && frame.message_id === null;
  const about = transcript.entries.find(anonymous ? isLive : names);
  return about && isLive(about) ? change(transcript, (row) => row === about, { status: "failed", failure }) : transcript;
}

/** The transcript after one frame; the same transcript if the frame was seen before. */
export function apply(transcript: Transcript, frame: ServerFrame): Transcript {
  if (frame.type === "welcome") return welcome(transcript, frame);
  const { lastSeq } = transcript;
  // Outside any numbering: before a conversation, or for this connection only.
  if (frame.type === "error" && (frame.seq === 0 || frame.seq === lastSeq)) return failed(transcript, frame);
  if (lastSeq !== null && frame.seq <= lastSeq) return transcript;
  const gap = transcript.gap || (lastSeq !== null && frame.seq !== lastSeq + 1);
  const next = { ...transcript, lastSeq: frame.seq, gap };
  switch (frame.type) {
    case "accepted":
      return accepted(next, frame);
    case "token":
      return change(next, (row) => row.responseId === frame.response_id && row.status !== "done", {
        status: "streaming",
        response: (next.entries.find((row) => row.responseId === frame.response_id)?.response ?? "") + frame.text,
      });
    case "done":
      return done(next, frame);
    case "error":
      return failed(next, frame);
  }
}
