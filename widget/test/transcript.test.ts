import assert from "node:assert/strict";
import { test } from "node:test";
import type { ServerFrame } from "../src/protocol";
import { apply, detach, drop, EMPTY, liveEntry, queue, retry, setThumb, type Transcript } from "../src/transcript";
import { accepted, done, frame, storedTurn, token, welcome } from "./frames";

const after = (start: Transcript, ...frames: ServerFrame[]): Transcript => frames.reduce(apply, start);
const asked = queue(after(EMPTY, welcome(0)), "m", "Hi?");
const brief = ({ entries }: Transcript): unknown[] =>
  entries.map(({ message, response, status, turnId }) => [message, response, status, turnId]);

test("a message goes from queued over waiting and streaming to done, and gets its turn_id last", () => {
  const states = [accepted(1, "m"), token(2, "45 "), token(3, "days"), done(4)].reduce<Transcript[]>(
    (all, next) => [...all, apply(all.at(-1) ?? asked, next)],
    [asked],
  );
  assert.deepEqual(
    states.flatMap(brief),
    [
      ["Hi?", "", "queued", null],
      ["Hi?", "", "waiting", null],
      ["Hi?", "45 ", "streaming", null],
      ["Hi?", "45 days", "streaming", null],
      ["Hi?", "45 days", "done", "t"],
    ],
  );
  assert.deepEqual(states.at(-1)?.entries[0]?.sources, [{ title: "Returns", source: "returns.md" }]);
});

test("a replayed frame changes nothing", () => {
  const frames = [accepted(1, "m"), token(2, "a"), token(3, "b")];
  const once = after(asked, ...frames);
  assert.deepEqual(after(once, welcome(2, [], false), ...frames.slice(1)), after(once, welcome(2, [], false)));
  assert.equal(after(once, ...frames).entries[0]?.response, "ab");
});

test("a reconnect goes on after the last frame", () => {
  const cut = after(asked, accepted(1, "m"), token(2, "a"));
  assert.equal(cut.lastSeq, 2);
  const resumed = after(cut, welcome(2, [], false), token(3, "b"), done(4));
  assert.deepEqual(brief(resumed), [["Hi?", "ab", "done", "t"]]);
  assert.equal(resumed.gap, false);
});

test("a lost frame asks for a resync, and the stored turns then replace what was there", () => {
  const holed = after(asked, accepted(1, "m"), token(3, "b"));
  assert.equal(holed.gap, true);
  const resynced = after(holed, welcome(0), accepted(1, "m"), token(2, "a"), token(3, "b"), done(4));
  assert.equal(resynced.gap, false);
  assert.deepEqual(brief(resynced), [["Hi?", "ab", "done", "t"]]);
});

test("a reload in the middle of a response shows its message and all of its words", () => {
  const reloaded = after(EMPTY, welcome(7, [storedTurn("t1", "first")]), accepted(8, "m", "r", "second"), token(9, "yes"));
  assert.deepEqual(brief(reloaded), [
    ["first", "answer to first", "done", "t1"],
    ["second", "yes", "streaming", null],
  ]);
});

test("a message sent again after a reload is shown once, whether it was answered meanwhile or not", () => {
  const answered = queue(EMPTY, "m", "Hi?");
  const stored = [storedTurn("t", "Hi?", 1)];
  const shown = after(answered, welcome(4, stored), accepted(5, "m"), token(6, "answer to Hi?"), done(7));
  assert.deepEqual(brief(shown), [["Hi?", "answer to Hi?", "done", "t"]]);
  assert.equal(shown.entries[0]?.thumb, 1);
  assert.deepEqual(brief(after(answered, welcome(0), accepted(1, "m"), token(2, "a"), done(3))), [["Hi?", "a", "done", "t"]]);
});

test("accepted twice does not lose the words that came between", () => {
  const twice = after(asked, accepted(1, "m"), token(2, "a"), accepted(3, "m"), token(4, "b"));
  assert.equal(twice.entries[0]?.response, "ab");
});

test("an error fails the message it names, and only one that is under way", () => {
  const busy = { type: "error", code: "busy", message: "x", retry_after_s: 3 };
  const byMessage = after(asked, frame(1, { ...busy, message_id: "m" }));
  assert.deepEqual(byMessage.entries[0]?.failure, { code: "busy", retryAfterS: 3 });
  const byResponse = after(asked, accepted(1, "m"), frame(2, { ...busy, response_id: "r" }));
  assert.equal(byResponse.entries[0]?.status, "failed");
  const unnamed = after(asked, frame(0, busy));
  assert.equal(unnamed.entries[0]?.status, "failed");
  const other = after(asked, frame(1, { ...busy, message_id: "another" }));
  assert.equal(other.entries[0]?.status, "queued");
  const late = after(asked, accepted(1, "m"), done(2), frame(3, { ...busy, response_id: "r" }));
  assert.equal(late.entries[0]?.status, "done");
});

test("an error that carries the present number concerns this connection: it is applied and takes none", () => {
  const unknown = frame(1, { type: "error", code: "bad_frame" });
  const refused = after(after(asked, accepted(1, "m")), unknown);
  assert.deepEqual([refused.lastSeq, refused.gap, refused.entries[0]?.status], [1, false, "failed"]);
  const late = after(asked, accepted(1, "m"), done(2), frame(2, { type: "error", code: "not_found", response_id: "r" }));
  assert.deepEqual(brief(late), [["Hi?", "", "done", "t"]]);
});

test("a retry waits again under its new id and forgets the broken response", () => {
  const failed = after(asked, accepted(1, "m"), token(2, "brok"), frame(3, { type: "error", code: "internal", response_id: "r" }));
  const again = retry(failed, "m", "m2");
  assert.deepEqual(brief(again), [["Hi?", "", "queued", null]]);
  assert.equal(again.entries[0]?.followed, false); // else it would not be sent after a cut
  assert.equal(liveEntry(again)?.id, "m2");
  assert.deepEqual(brief(after(again, accepted(4, "m2", "r2"), token(5, "ok", "r2"), done(6, "t2", "r2"))), [
    ["Hi?", "ok", "done", "t2"],
  ]);
});

test("a conversation that the server lost stays readable, cannot be judged, and does not swallow what is unsent", () => {
  const answered = after(asked, accepted(1, "m"), token(2, "a"), done(3));
  const judged = setThumb(answered, "t", 1);
  const lost = detach(after(queue(judged, "m2", "and?"), accepted(4, "m2", "r2"), token(5, "no", "r2")));
  assert.equal(lost.conversationId, null);
  assert.deepEqual([lost.entries[1]?.responseId, lost.entries[1]?.followed], [null, false]);
  const fresh = after(lost, welcome(0));
  assert.deepEqual(brief(fresh), [
    ["Hi?", "a", "done", null],
    ["and?", "", "queued", null],
  ]);
  assert.equal(fresh.entries[0]?.thumb, null);
});

test("values are not changed in place", () => {
  const frozen = Object.freeze({ ...asked, entries: Object.freeze(asked.entries.map((row) => Object.freeze(row))) });
  after(frozen, accepted(1, "m"), token(2, "a"), done(3));
  assert.deepEqual(brief(frozen), [["Hi?", "", "queued", null]]);
  assert.deepEqual(drop(frozen, "m").entries, []);
});
