// Frames as the server sends them, for the tests of what reads them.

import { parseFrame, type ServerFrame } from "../src/protocol";

export const frame = (seq: number, rest: Record<string, unknown>): ServerFrame => {
  const parsed = parseFrame(JSON.stringify({ protocol: 1, seq, conversation_id: "c", ...rest }));
  if (!parsed) throw new Error(`not a frame: ${JSON.stringify(rest)}`);
  return parsed;
};

const shop = { name: "Brambletarn", greeting: "Hello" };

export const welcome = (seq: number, turns: unknown[] = [], missed = true): ServerFrame =>
  frame(seq, { type: "welcome", shop, turns, rating: null, missed });
export const accepted = (seq: number, message_id: string, response_id = "r", text = "Hi?"): ServerFrame =>
  frame(seq, { type: "accepted", message_id, response_id, text });
export const token = (seq: number, text: string, response_id = "r"): ServerFrame =>
  frame(seq, { type: "token", response_id, text });
export const done = (seq: number, turn_id = "t", response_id = "r"): ServerFrame =>
  frame(seq, { type: "done", response_id, turn_id, finish_reason: "stop", sources: [{ title: "Returns", source: "returns.md" }] });
export const storedTurn = (turn_id: string, message: string, thumb: number | null = null): unknown => ({
  turn_id,
  message,
  response: `answer to ${message}`,
  policy_version: 3,
  origin: "policy",
  sources: [],
  thumb,
});
