import assert from "node:assert/strict";
import { test } from "node:test";
import { delayMs } from "../src/backoff";
import { outcomeOf } from "../src/feedback";

test("the wait doubles from half a second to fifteen, and half of it is chance", () => {
  assert.deepEqual([0, 1, 2, 3, 4, 5, 50].map((attempt) => delayMs(attempt, 1)), [500, 1000, 2000, 4000, 8000, 15000, 15000]);
  assert.equal(delayMs(3, 0), 2000);
  assert.equal(delayMs(3, 0.5), 3000);
});

test("feedback is tried again when the server may yet take it, and given up when it never will", () => {
  for (const status of [200, 201, 204]) assert.equal(outcomeOf(status), "saved");
  for (const status of [401, 408, 425, 429, 500, 502, 503]) assert.equal(outcomeOf(status), "later");
  for (const status of [400, 403, 404, 409, 422]) assert.equal(outcomeOf(status), "refused");
});
