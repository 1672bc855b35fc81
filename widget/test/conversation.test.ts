import assert from "node:assert/strict";
import { test } from "node:test";
import { Conversation, ratingPath } from "../src/conversation";
import { Outbox } from "../src/outbox";
import { browser, type Memory } from "./browser";
import { welcome } from "./frames";

const OUTBOX = "amends:s:outbox";
const TOO_LONG = "é".repeat(8193); // 16,386 bytes
const open = (): Conversation => new Conversation("http://chat.example/", "s", () => {});
const waiting = (tab: Memory): string[] => new Outbox(tab, OUTBOX).messages.map(({ text }) => text);
const brief = ({ transcript }: Conversation): unknown[] =>
  transcript.entries.map(({ message, status, failure }) => [message.length, status, failure?.code]);

test("a message over the limit fails on the page, is not kept for sending, and the next one is", () => {
  const { tab } = browser();
  const conversation = open();
  conversation.say(TOO_LONG);
  assert.deepEqual(brief(conversation), [[8193, "failed", "message_too_long"]]);
  assert.equal(conversation.live, undefined);
  assert.deepEqual(waiting(tab), []);
  conversation.say("é".repeat(8192));
  assert.deepEqual(brief(conversation).at(-1), [8192, "queued", undefined]);
  assert.deepEqual(waiting(tab), ["é".repeat(8192)]);
});

test("a message over the limit that an outbox still holds is shown as failed and sent no more", () => {
  const { tab } = browser();
  const before = new Outbox(tab, OUTBOX);
  before.put({ kind: "message", id: "a", text: TOO_LONG });
  before.put({ kind: "message", id: "b", text: "Hi?" });
  const conversation = open();
  assert.deepEqual(brief(conversation), [
    [8193, "failed", "message_too_long"],
    [3, "queued", undefined],
  ]);
  assert.deepEqual(waiting(tab), ["Hi?"]);
});

test("a rating on its way to the server is shown as given", () => {
  const { tab } = browser();
  new Outbox(tab, OUTBOX).put({ kind: "feedback", id: "a", path: ratingPath("c"), body: { value: 4 } });
  globalThis.fetch = () => new Promise(() => {});
  const conversation = open();
  conversation["receive"](welcome(1));
  assert.equal(conversation.transcript.rating, 4);
});
