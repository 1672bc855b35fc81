// The thumbs under one answer, with the chips and the comment that a thumb down opens.
// Knows no network: it says `thumb` with what was given. A thumb is given at once; the form only adds to it.

import { html, LitElement, nothing, type TemplateResult } from "lit";
import { icons } from "./icons";
import type { Strings } from "./i18n";
import type { Outcome } from "./feedback";
import { REASONS, type Reason, type ThumbValue } from "./protocol";
import { controls, thumb } from "./styles";

export interface ThumbGiven {
  readonly value: ThumbValue;
  readonly reasons: readonly Reason[];
  readonly comment: string;
}

export class AmendsThumb extends LitElement {
  static override properties = {
    value: { type: Number },
    outcome: { type: String, reflect: true },
    strings: { attribute: false },
    asking: { state: true },
    reasons: { state: true },
  };
  declare value: ThumbValue | null;
  declare outcome: Outcome | undefined;
  declare strings: Strings;
  declare asking: boolean;
  declare reasons: ReadonlySet<Reason>;

  constructor() {
    super();
    this.value = null;
    this.asking = false;
    this.reasons = new Set();
  }

  override render(): TemplateResult {
    const { strings, asking, outcome } = this;
    const said = outcome === "saved" ? strings.saved : outcome === "sending" ? strings.saving : strings.refused;
    return html`
      <div class="row" role="group" aria-label=${strings.judge}>
        ${this.button(1, strings.helpful)} ${this.button(-1, strings.notHelpful)}
        <span class="said" role="status">${outcome && !asking ? said : nothing}</span>
      </div>
      ${asking ? this.form() : nothing}
    `;
  }

  private button(value: ThumbValue, label: string): TemplateResult {
    const given = this.value === value;
    return html`<button
      class="icon ${value === 1 ? "up" : "turned"}"
      type="button"
      title=${label}
      aria-label=${label}
      aria-pressed=${given}
      @click=${() => this.press(value)}
    >
      ${given ? icons.thumbGiven : icons.thumb}
    </button>`;
  }

  private form(): TemplateResult {
    const { strings } = this;
    return html`<form @submit=${this.submit} @keydown=${this.leave}>
      <p id="wrong">${strings.wrong}</p>
      <div class="chips" role="group" aria-labelledby="wrong">
        ${REASONS.map(
          (reason) =>
            html`<button
              class="chip"
              type="button"
              aria-pressed=${this.reasons.has(reason)}
              @click=${() => this.choose(reason)}
            >
              ${strings.reasons[reason]}
            </button>`,
        )}
      </div>
      <textarea rows="2" maxlength="2000" aria-label=${strings.comment} placeholder=${strings.comment}></textarea>
      <div class="row">
        <button class="main" type="submit">${strings.sendFeedback}</button>
        <button class="plain" type="button" @click=${this.shut}>${strings.skip}</button>
      </div>
    </form>`;
  }

  private press(value: ThumbValue): void {
    this.asking = value === -1 && !(this.asking && this.value === -1);
    if (this.value !== value) {
      this.reasons = new Set();
      this.give(value, "");
    }
    if (this.asking) void this.updateComplete.then(() => this.renderRoot.querySelector("form")?.scrollIntoView({ block: "nearest" }));
  }

  private choose(reason: Reason): void {
    const reasons = new Set(this.reasons);
    if (!reasons.delete(reason)) reasons.add(reason);
    this.reasons = reasons;
  }

  private submit(event: Event): void {
    event.preventDefault();
    const comment = this.renderRoot.querySelector("textarea")?.value.trim() ?? "";
    if (this.reasons.size || comment) this.give(-1, comment);
    this.shut();
  }

  private leave(event: KeyboardEvent): void {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    event.preventDefault();
    this.shut();
  }

  private shut(): void {
    this.asking = false;
    this.renderRoot.querySelector<HTMLElement>(".turned")?.focus();
  }

  private give(value: ThumbValue, comment: string): void {
    const detail: ThumbGiven = { value, reasons: REASONS.filter((reason) => this.reasons.has(reason)), comment };
    this.dispatchEvent(new CustomEvent("thumb", { detail }));
  }

  static override styles = [controls, thumb];
}
