// The frames of the WebSocket protocol, version 1, as tagged unions.
// Knows no socket and no page. Invariant: what leaves parseFrame has every field its type promises,
// so nothing behind it checks again. Unknown frame types are ignored: a newer server may send more.

export const PROTOCOL = 1;
/** In UTF-8; a frame far above it makes the server close the socket. */
export const MAX_MESSAGE_BYTES = 16_384;

export type ThumbValue = 1 | -1;
export type RatingValue = 1 | 2 | 3 | 4 | 5;
export const REASONS = ["incorrect", "incomplete", "inappropriate", "outdated", "other"] as const;
export type Reason = (typeof REASONS)[number];

export interface Source {
  readonly title: string;
  readonly source: string;
}

export interface StoredTurn {
  readonly turn_id: string;
  readonly message: string;
  readonly response: string;
  readonly sources: readonly Source[];
  readonly thumb: ThumbValue | null;
  readonly finish_reason: string;
}

interface Numbered {
  readonly seq: number;
  readonly conversation_id: string;
}

export interface Welcome extends Numbered {
  readonly type: "welcome";
  readonly shop: { readonly name: string; readonly greeting: string };
  readonly turns: readonly StoredTurn[];
  readonly rating: RatingValue | null;
  readonly missed: boolean;
}

export interface Accepted extends Numbered {
  readonly type: "accepted";
  readonly message_id: string;
  readonly response_id: string;
  readonly text: string;
}

export interface Token extends Numbered {
  readonly type: "token";
  readonly response_id: string;
  readonly text: string;
}

export interface Done extends Numbered {
  readonly type: "done";
  readonly response_id: string;
  readonly turn_id: string;
  readonly finish_reason: string;
  readonly sources: readonly Source[];
}

export interface ErrorFrame extends Numbered {
  readonly type: "error";
  readonly code: string;
  readonly message: string;
  readonly response_id: string | null;
  readonly message_id: string | null;
  readonly retry_after_s: number | null;
}

export type ServerFrame = Welcome | Accepted | Token | Done | ErrorFrame;

export type ClientFrame =
  | {
      type: "hello";
      protocol: number;
      token: string;
      conversation_id: string | null;
      after_seq: number | null;
    }
  | { type: "message"; message_id: string; text: string }
  | { type: "cancel"; response_id: string };

type Json = Record<string, unknown>;

const object = (value: unknown): Json | null =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : null;
const text = (value: unknown): string => (typeof value === "string" ? value : "");
const maybe = (value: unknown): string | null => text(value) || null;
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
const thumb = (value: unknown): ThumbValue | null => (value === 1 || value === -1 ? value : null);
const rating = (value: unknown): RatingValue | null =>
  ([1, 2, 3, 4, 5] as const).find((step) => step === value) ?? null;

function sources(value: unknown): Source[] {
  return list(value)
    .map(object)
    .filter((row): row is Json => row !== null && text(row.title) !== "")
    .map((row) => ({ title: text(row.title), source: text(row.source) }));
}

function storedTurn(value: unknown): StoredTurn | null {
  const row = object(value);
  if (!row || !text(row.turn_id)) return null;
  return {
    turn_id: text(row.turn_id),
    message: text(row.message),
    response: text(row.response),
    sources: sources(row.sources),
    thumb: thumb(row.thumb),
    finish_reason: text(row.finish_reason) || "stop",
  };
}

/** One server frame, or null for anything that is not one (including types this version does not know). */
export function parseFrame(raw: unknown): ServerFrame | null {
  let frame: Json | null;
  try {
    frame = object(JSON.parse(text(raw)));
  } catch {
    return null;
  }
  if (!frame || frame.protocol !== PROTOCOL) return null;
  const numbered = {
    seq: typeof frame.seq === "number" ? frame.seq : 0,
    conversation_id: text(frame.conversation_id),
  };
  const response_id = text(frame.response_id);
  switch (frame.type) {
    case "welcome": {
      const shop = object(frame.shop) ?? {};
      return {
        ...numbered,
        type: "welcome",
        shop: { name: text(shop.name), greeting: text(shop.greeting) },
        turns: list(frame.turns)
          .map(storedTurn)
          .filter((turn): turn is StoredTurn => turn !== null),
        rating: rating(frame.rating),
        missed: frame.missed !== false,
      };
    }
    case "accepted": {
      const message_id = text(frame.message_id);
      return message_id && response_id
        ? { ...numbered, type: "accepted", message_id, response_id, text: text(frame.text) }
        : null;
    }
    case "token":
      return response_id ? { ...numbered, type: "token", response_id, text: text(frame.text) } : null;
    case "done": {
      const turn_id = text(frame.turn_id);
      if (!response_id || !turn_id) return null;
      const finish_reason = text(frame.finish_reason);
      return { ...numbered, type: "done", response_id, turn_id, finish_reason, sources: sources(frame.sources) };
    }
    case "error":
      return {
        ...numbered,
        type: "error",
        code: text(frame.code) || "internal",
        message: text(frame.message),
        response_id: response_id || null,
        message_id: maybe(frame.message_id),
        retry_after_s: typeof frame.retry_after_s === "number" ? frame.retry_after_s : null,
      };
    default:
      return null;
  }
}
