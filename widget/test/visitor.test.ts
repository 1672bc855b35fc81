import assert from "node:assert/strict";
import { test } from "node:test";
import { NoToken, Visitor } from "../src/visitor";
import { browser } from "./browser";

const HOUR_S = 3600;
const DAY_S = 24 * HOUR_S;

/** A server that gives tokens for a day, and what it was asked with. */
function server(clock: { now: number }): { asked: (string | null)[]; reachable: boolean } {
  const state = { asked: [] as (string | null)[], reachable: true };
  Date.now = () => clock.now * 1000;
  globalThis.fetch = async (_url, request) => {
    if (!state.reachable) throw new TypeError("no network");
    state.asked.push(new Headers(request?.headers).get("authorization"));
    return Response.json({ token: `t${state.asked.length}`, expires_at: clock.now + DAY_S });
  };
  return state;
}

test("a visitor's token is renewed as the same visitor's from half of its life on, and used while it is valid", async () => {
  const clock = { now: 1e9 };
  const asked = server(clock);
  const visitor = new Visitor("http://chat.example/", "s", browser().tab);
  assert.deepEqual([await visitor.token(), await visitor.token()], ["t1", "t1"]);
  clock.now += 11 * HOUR_S;
  assert.equal(await visitor.token(), "t1");
  clock.now += 2 * HOUR_S;
  asked.reachable = false;
  assert.equal(await visitor.token(), "t1");
  asked.reachable = true;
  assert.equal(await visitor.token(), "t2");
  assert.deepEqual(asked.asked, [null, "Bearer t1"]);
  asked.reachable = false;
  clock.now += DAY_S;
  await assert.rejects(visitor.token(), NoToken);
});
