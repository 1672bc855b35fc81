// The cards that take the place of the input: rating a conversation at its end, and talking to a person.

import { html, nothing, type TemplateResult } from "lit";
import type { Outcome } from "./feedback";
import type { Strings } from "./i18n";
import type { RatingValue } from "./protocol";

const STEPS: readonly RatingValue[] = [1, 2, 3, 4, 5];

export interface Ending {
  rate(value: RatingValue): void;
  startOver(): void;
  goOn(): void;
}

export function endCard(
  rating: RatingValue | null,
  outcome: Outcome | undefined,
  strings: Strings,
  ending: Ending,
): TemplateResult {
  const said = { saved: strings.saved, sending: strings.saving, refused: strings.refused };
  return html`<section class="card end">
    <p class="question" id="rate">${strings.rate}</p>
    <div class="steps" role="group" aria-labelledby="rate">
      ${STEPS.map(
        (value) =>
          html`<button
            class="step"
            type="button"
            aria-label=${strings.rateStep(value)}
            aria-pressed=${rating === value}
            @click=${() => ending.rate(value)}
          >
            ${value}
          </button>`,
      )}
    </div>
    <div class="ends" aria-hidden="true"><span>${strings.lowest}</span><span>${strings.highest}</span></div>
    ${outcome ? html`<p class="said" role="status">${said[outcome]}</p>` : nothing}
    <div class="buttons">
      <button class="main" type="button" @click=${() => ending.startOver()}>${strings.startOver}</button>
      <button class="plain" type="button" @click=${() => ending.goOn()}>${strings.goOn}</button>
    </div>
  </section>`;
}

export function personCard(contact: string, strings: Strings, done: () => void): TemplateResult {
  return html`<section class="card person">
    <p class="question">${strings.person}</p>
    <p role="status">${contact || strings.personNone}</p>
    <div class="buttons"><button class="main" type="button" @click=${done}>${strings.gotIt}</button></div>
  </section>`;
}
