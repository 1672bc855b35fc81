import assert from "node:assert/strict";
import { test } from "node:test";
import { Outbox } from "../src/outbox";
import { Memory } from "./browser";

const message = (id: string, text = "Hi?") => ({ kind: "message", id, text }) as const;
const thumb = (id: string, value: number, turn = "t") =>
  ({ kind: "feedback", id, path: `v1/turns/${turn}/thumb`, body: { value } }) as const;

test("what was put in is there after a reload, in order", () => {
  const shelf = new Memory();
  const before = new Outbox(shelf, "o");
  before.put(message("a"));
  before.put(thumb("b", 1));
  before.put(message("c"));
  const after = new Outbox(shelf, "o");
  assert.deepEqual(after.messages.map(({ id }) => id), ["a", "c"]);
  assert.deepEqual(after.feedback, [thumb("b", 1)]);
});

test("of two judgements of one turn only the later is sent, of two turns both", () => {
  const outbox = new Outbox(new Memory(), "o");
  outbox.put(thumb("a", 1));
  outbox.put(thumb("b", -1));
  outbox.put(thumb("c", 1, "other"));
  assert.deepEqual(outbox.feedback.map(({ id }) => id), ["b", "c"]);
});

test("a judgement that replaced one under way outlives the answer to the first", () => {
  const outbox = new Outbox(new Memory(), "o");
  outbox.put(thumb("a", 1));
  outbox.put(thumb("b", -1));
  outbox.remove("a");
  assert.deepEqual(outbox.feedback.map(({ id }) => id), ["b"]);
});

test("an empty outbox leaves nothing behind in the storage", () => {
  const shelf = new Memory();
  const outbox = new Outbox(shelf, "o");
  outbox.put(message("a"));
  outbox.remove("a");
  assert.equal(shelf.kept.size, 0);
});

test("what somebody else wrote into the storage is not believed", () => {
  const shelf = new Memory();
  for (const raw of ["{", '"x"', "null", '[null, 3, {"kind":"message"}, {"id":"a","kind":"other"}]']) {
    shelf.setItem("o", raw);
    const outbox = new Outbox(shelf, "o");
    assert.deepEqual([outbox.messages, outbox.feedback], [[], []]);
  }
});
