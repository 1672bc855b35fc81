import assert from "node:assert/strict";
import { test } from "node:test";
import { parseFrame } from "../src/protocol";
import { frame, storedTurn, welcome } from "./frames";

test("what is not a frame of protocol 1 is null, never an exception", () => {
  const numbered = { protocol: 1, seq: 1, conversation_id: "c" };
  for (const raw of ["", "{", "[]", "null", "7", undefined, new Blob([]), JSON.stringify({ type: "token" })]) {
    assert.equal(parseFrame(raw), null);
  }
  assert.equal(parseFrame(JSON.stringify({ ...numbered, protocol: 2, type: "token", response_id: "r" })), null);
  assert.equal(parseFrame(JSON.stringify({ ...numbered, type: "a frame of tomorrow" })), null);
  assert.equal(parseFrame(JSON.stringify({ ...numbered, type: "done", response_id: "r" })), null);
});

test("unknown fields of a frame are ignored", () => {
  const read = frame(4, { type: "token", response_id: "r", text: "a", tomorrow: true });
  assert.deepEqual(read, { type: "token", seq: 4, conversation_id: "c", response_id: "r", text: "a" });
});

test("fields of a wrong type become harmless, thumbs and ratings only what they may be", () => {
  const read = welcome(0, [storedTurn("t", "q", 5), { turn_id: 3 }, null, "x"]);
  assert.equal(read.type, "welcome");
  assert.deepEqual(read.type === "welcome" && read.turns.map(({ turn_id, thumb }) => [turn_id, thumb]), [["t", null]]);
  const strange = frame(1, { type: "welcome", shop: 3, turns: {}, rating: 6, missed: "no" });
  assert.deepEqual(strange.type === "welcome" && [strange.shop, strange.turns, strange.rating, strange.missed], [
    { name: "", greeting: "" },
    [],
    null,
    true,
  ]);
});

test("fields that an error leaves out are null", () => {
  const read = frame(0, { type: "error", code: "busy", message: "later", retry_after_s: 2.5 });
  assert.deepEqual(read, {
    type: "error",
    seq: 0,
    conversation_id: "c",
    code: "busy",
    message: "later",
    message_id: null,
    response_id: null,
    retry_after_s: 2.5,
  });
});
