import assert from "node:assert/strict";
import { test } from "node:test";
import type { TemplateResult } from "lit";
import { render } from "../src/markdown";

/** The template's own text and, in brackets, what it is filled with: what is in brackets can only be text. */
function shape(content: unknown): string {
  if (Array.isArray(content)) return content.map(shape).join("");
  if (typeof content === "string") return `[${content}]`;
  if (typeof content !== "object" || content === null) return "";
  const { strings, values } = content as TemplateResult;
  return strings.map((text, index) => text + shape(values[index])).join("");
}

test("what answers use becomes elements", () => {
  assert.equal(shape(render("a **b** *c* `d`")), "<p>[a ]<strong>[b]</strong>[ ]<em>[c]</em>[ ]<code>[d]</code></p>");
  assert.equal(shape(render("1. a\n2. b")), "<ol start=1><li>[a]</li><li>[b]</li></ol>".replace("start=1", "start="));
  assert.equal(shape(render("- a\n- **b**")), "<ul><li>[a]</li><li><strong>[b]</strong></li></ul>");
  assert.match(shape(render("|a|b|\n|-|-|\n|c|d|")), /<th>\[a\]<\/th>.*<td>\[c\]<\/td>/s);
  assert.equal(shape(render("a\nb")), "<p>[a]<br />[b]</p>");
});

test("links are https or mailto, everything else stays the text it was", () => {
  assert.match(shape(render("[x](https://shop.example/a)")), /<a href=\[https:\/\/shop.example\/a\] .*>\[x\]<\/a>/);
  assert.match(shape(render("<help@shop.example>")), /href=\[mailto:help@shop.example\]/);
  for (const bad of ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "http://a.example", "/a", "//a.example", "vbscript:x"]) {
    assert.equal(shape(render(`[x](${bad})`)).includes("href"), false, bad);
  }
});

test("markup and images stay text", () => {
  for (const raw of ["<img src=x onerror=alert(1)>", "<script>alert(1)</script>", "a <b onclick=x>b</b>", "![x](https://a.example/p.png)"]) {
    const outside = shape(render(raw)).replace(/\[[^\]]*\]/g, "");
    assert.doesNotMatch(outside, /<(?!\/?p>)/, raw);
  }
});

test("nesting without end is shown as text, not as an exception", () => {
  assert.match(shape(render("> ".repeat(200) + "deep")), /deep/);
  assert.match(shape(render("*".repeat(5000) + "a" + "*".repeat(5000))), /a/);
});
