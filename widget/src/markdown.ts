// A response's Markdown as templates: marked splits the text into tokens, Lit makes the elements.
// Guard: no HTML text is ever parsed, so there is nothing to sanitise; what has no template below is shown as
// text, links are https or mailto, there are no images. Not covered: whether the text is true or kind.
// While a response streams only the nodes that changed are touched, so a selection in it survives.

import { html, nothing, type TemplateResult } from "lit";
import { Lexer, type Token, type Tokens } from "marked";

type Content = TemplateResult | string | typeof nothing | readonly Content[];

const SAFE_LINK = /^(?:https:\/\/|mailto:)/i;
/** Deeper nesting than any answer needs; what lies below is shown as text. */
const DEEPEST = 16;

export function render(markdown: string): Content {
  try {
    return all(new Lexer({ gfm: true, breaks: true }).lex(markdown), 0);
  } catch (error) {
    // Thousands of nested marks overflow marked's stack; such a text is shown as it came.
    if (error instanceof RangeError) return markdown;
    throw error;
  }
}

function all(tokens: readonly Token[] | undefined, depth: number): Content {
  return (tokens ?? []).map((token) => one(token, depth));
}

function one(token: Token, depth: number): Content {
  if (depth > DEEPEST) return token.raw;
  const { tokens, text } = token as Tokens.Text;
  const inner = (): Content => (tokens ? all(tokens, depth + 1) : text);
  switch (token.type) {
    case "space":
    case "def":
      return nothing;
    case "paragraph":
      return html`<p>${inner()}</p>`;
    case "heading":
      return html`<p><strong>${inner()}</strong></p>`;
    case "strong":
      return html`<strong>${inner()}</strong>`;
    case "em":
      return html`<em>${inner()}</em>`;
    case "del":
      return html`<del>${inner()}</del>`;
    case "blockquote":
      return html`<blockquote>${inner()}</blockquote>`;
    case "code":
      return html`<pre><code>${(token as Tokens.Code).text}</code></pre>`;
    case "codespan":
      return html`<code>${(token as Tokens.Codespan).text}</code>`;
    case "br":
      return html`<br />`;
    case "hr":
      return html`<hr />`;
    case "list":
      return list(token as Tokens.List, depth);
    case "table":
      return table(token as Tokens.Table, depth);
    case "link":
      return link(token as Tokens.Link, inner());
    case "text":
    case "escape":
      return inner();
    default:
      return token.raw;
  }
}

function link({ href, raw }: Tokens.Link, inner: Content): Content {
  if (!SAFE_LINK.test(href)) return raw;
  return html`<a href=${href} target="_blank" rel="noopener noreferrer nofollow">${inner}</a>`;
}

function list({ ordered, start, items }: Tokens.List, depth: number): Content {
  const rows = items.map((item) => html`<li>${all(item.tokens, depth + 1)}</li>`);
  return ordered ? html`<ol start=${start || 1}>${rows}</ol>` : html`<ul>${rows}</ul>`;
}

function table({ header, rows }: Tokens.Table, depth: number): Content {
  const cells = (row: readonly Tokens.TableCell[], head: boolean): Content =>
    row.map(({ tokens }) => {
      const inner = all(tokens, depth + 1);
      return head ? html`<th>${inner}</th>` : html`<td>${inner}</td>`;
    });
  return html`<table>
    <thead>
      <tr>${cells(header, true)}</tr>
    </thead>
    <tbody>
      ${rows.map((row) => html`<tr>${cells(row, false)}</tr>`)}
    </tbody>
  </table>`;
}
