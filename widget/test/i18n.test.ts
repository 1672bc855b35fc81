import assert from "node:assert/strict";
import { test } from "node:test";
import { localeFor } from "../src/i18n";

test("the first wished language that exists is spoken, English if none is", () => {
  assert.equal(localeFor(["", undefined, "de-AT", "en"]).tag, "de");
  assert.equal(localeFor(["xx", "en-GB", "de"]).tag, "en");
  assert.equal(localeFor(["xx"]).tag, "en");
  assert.equal(localeFor([]).dir, "ltr");
});

test("counts are told in the singular and in the plural", () => {
  const { strings } = localeFor(["de"]);
  assert.deepEqual([strings.unread(1), strings.unread(3)], ["1 neue Antwort", "3 neue Antworten"]);
});
