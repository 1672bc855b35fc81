// How one entry of the transcript is drawn: message, response, sources, thumbs, or what went wrong.
// Knows no network; what the visitor does goes out through `Doing`.

import { html, nothing, type TemplateResult } from "lit";
import { guard } from "lit/directives/guard.js";
import type { Outcome } from "./feedback";
import type { Strings } from "./i18n";
import { render } from "./markdown";
import type { Source } from "./protocol";
import type { ThumbGiven } from "./thumb";
import { isLive, type Entry } from "./transcript";

export interface Doing {
  again(entry: Entry): void;
  edit(entry: Entry): void;
  thumb(turnId: string, given: ThumbGiven): void;
}

/** A message that the server refused for what it says: sending it again cannot help, changing it can. */
const FOR_ITS_TEXT = new Set(["message_too_long", "empty_message"]);

export function turnView(
  entry: Entry,
  connected: boolean,
  strings: Strings,
  outcome: Outcome | undefined,
  doing: Doing,
): TemplateResult {
  const { message, response, status } = entry;
  const waiting = status === "waiting" || (status === "queued" && connected);
  return html`<div class="turn ${status}" data-turn=${entry.turnId ?? nothing}>
    ${message ? html`<div class="bubble"><span class="hidden">${strings.you}: </span>${message}</div>` : nothing}
    ${status === "queued" && !connected ? html`<p class="note">${strings.queued}</p>` : nothing}
    ${waiting ? thinking(strings) : nothing}
    ${response
      ? html`<div class="answer" aria-busy=${isLive(entry)}>${guard([response], () => render(response))}</div>`
      : nothing}
    ${status === "failed" ? failureView(entry, strings, doing) : nothing}
    ${status === "done" ? after(entry, strings, outcome, doing) : nothing}
  </div>`;
}

const thinking = (strings: Strings): TemplateResult =>
  html`<div class="answer"><span class="dots" aria-hidden="true"><i></i><i></i><i></i></span><span class="hidden">${strings.waiting}</span></div>`;

function failureView(entry: Entry, strings: Strings, doing: Doing): TemplateResult {
  const code = entry.failure?.code ?? "other";
  const said = strings.failures[code] ?? strings.failures.other;
  const forItsText = FOR_ITS_TEXT.has(code);
  return html`<div class="failure" role="alert">
    <p>${said}</p>
    <button class="plain" type="button" @click=${() => (forItsText ? doing.edit(entry) : doing.again(entry))}>
      ${forItsText ? strings.edit : strings.retry}
    </button>
  </div>`;
}

function after(entry: Entry, strings: Strings, outcome: Outcome | undefined, doing: Doing): TemplateResult {
  const { turnId, finishReason } = entry;
  const note = finishReason === "cancelled" ? strings.stopped : finishReason === "length" ? strings.shortened : "";
  return html`<div class="after">
    ${note ? html`<p class="note">${note}</p>` : nothing} ${sourcesView(entry.sources, strings)}
    ${turnId
      ? html`<amends-thumb
          .value=${entry.thumb}
          .outcome=${outcome}
          .strings=${strings}
          @thumb=${(event: CustomEvent<ThumbGiven>) => doing.thumb(turnId, event.detail)}
        ></amends-thumb>`
      : nothing}
  </div>`;
}

function sourcesView(sources: readonly Source[], strings: Strings): TemplateResult | typeof nothing {
  if (!sources.length) return nothing;
  return html`<div class="sources">
    ${strings.sources}:
    <ul>
      ${sources.map(({ title, source }) =>
        source.startsWith("https://")
          ? html`<li><a href=${source} target="_blank" rel="noopener noreferrer">${title}</a></li>`
          : html`<li>${title}</li>`,
      )}
    </ul>
  </div>`;
}
