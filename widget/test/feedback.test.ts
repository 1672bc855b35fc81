import assert from "node:assert/strict";
import { test } from "node:test";
import { FeedbackSender, type Outcome } from "../src/feedback";
import { Outbox } from "../src/outbox";
import { Visitor } from "../src/visitor";
import { browser } from "./browser";

test("after an answer that nobody expected a judgement still goes out", async () => {
  const { tab } = browser();
  const outbox = new Outbox(tab, "o");
  const told: [string, Outcome][] = [];
  const sender = new FeedbackSender("http://chat.example/", new Visitor("http://chat.example/", "s", tab), outbox, (...all) =>
    told.push(all),
  );
  outbox.put({ kind: "feedback", id: "a", path: "v1/turns/t/thumb", body: { value: 1 } });

  globalThis.fetch = async () => new Response("<title>a proxy's page</title>");
  await assert.rejects(sender.flush(), SyntaxError);
  assert.equal(outbox.feedback.length, 1);

  globalThis.fetch = async () => Response.json({ token: "t", visitor_id: "v", expires_at: 4e9 });
  await sender.flush();
  assert.deepEqual([outbox.feedback, told], [[], [["v1/turns/t/thumb", "saved"]]]);
});
