// <amends-chat>: the launcher and the panel, and what keys and focus do.
// Draws the Conversation and passes on what the visitor does; knows no frame and no storage.
// Invariant: before the first open there is no Conversation, hence no socket, no request, no storage.

import { html, LitElement, nothing, type PropertyValues, type TemplateResult } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { endCard, personCard } from "./cards";
import { Conversation, ratingPath, thumbPath } from "./conversation";
import { localeFor, type Locale } from "./i18n";
import { icons } from "./icons";
import { controls, frame, panel, turns } from "./styles";
import { turnView, type Doing } from "./turn_view";

const AT_THE_END_PX = 80;
const AS_A_SHEET = "(max-width: 520px), (max-height: 480px)";

export class AmendsChat extends LitElement {
  /** Where the script came from: the server, unless the attribute `server` names another. */
  static scriptServer = location.origin;

  static override properties = {
    site: {},
    server: {},
    contact: {},
    suggestions: {},
    locale: {},
    opened: { state: true },
    card: { state: true },
    unread: { state: true },
    draft: { state: true },
  };
  declare site: string;
  /** Base address of the Amends server. */
  declare server: string;
  /** What "talk to a person" says: how the shop can be reached. */
  declare contact: string;
  /** First questions to offer, separated by "|". */
  declare suggestions: string;
  declare locale: string;
  declare private opened: boolean;
  declare private card: "end" | "person" | null;
  declare private unread: number;
  declare private draft: string;

  private conversation: Conversation | null = null;
  private finished = 0;
  private follow = true;

  private readonly doing: Doing = {
    again: (entry) => this.conversation?.sayAgain(entry),
    edit: (entry) => {
      this.conversation?.takeBack(entry);
      this.draft = entry.message;
      void this.updateComplete.then(() => this.input?.focus());
    },
    thumb: (turnId, { value, reasons, comment }) => this.conversation?.giveThumb(turnId, value, reasons, comment),
  };

  constructor() {
    super();
    this.site = "default";
    this.server = "";
    this.contact = "";
    this.suggestions = "";
    this.locale = "";
    this.opened = false;
    this.card = null;
    this.unread = 0;
    this.draft = "";
  }

  open(): void {
    if (this.opened) return;
    this.conversation ??= new Conversation(this.server || AmendsChat.scriptServer, this.site, () => this.changed());
    this.opened = true;
    this.unread = 0;
    this.conversation.start();
    const sheet = matchMedia(AS_A_SHEET).matches;
    void this.updateComplete.then(() => {
      if (sheet) this.dialog?.showModal();
      else this.dialog?.show();
      // On a phone focus in the input would raise the keyboard over the greeting.
      if (sheet) this.renderRoot.querySelector<HTMLElement>("h2")?.focus();
      else this.input?.focus();
      this.toTheEnd();
    });
    this.dispatchEvent(new CustomEvent("amends-opened", { bubbles: true, composed: true }));
  }

  close(): void {
    if (!this.opened) return;
    this.opened = false;
    this.dialog?.close();
    void this.updateComplete.then(() => this.renderRoot.querySelector<HTMLElement>(".launcher")?.focus());
    this.dispatchEvent(new CustomEvent("amends-closed", { bubbles: true, composed: true }));
  }

  toggle(): void {
    if (this.opened) this.close();
    else this.open();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.conversation?.stop();
    this.opened = false;
  }

  override render(): TemplateResult {
    const { tag, dir, strings } = this.words;
    const label = this.opened ? strings.close : strings.open;
    return html`
      <div lang=${tag} dir=${dir}>
        <dialog aria-labelledby="title" @cancel=${this.cancelled} @keydown=${this.key}>
          ${this.conversation ? this.panel(this.conversation) : nothing}
        </dialog>
        <button class="launcher" type="button" aria-expanded=${this.opened} aria-label=${label} @click=${this.toggle}>
          ${this.opened ? icons.down : icons.chat}
          ${this.unread ? html`<span class="badge" aria-label=${strings.unread(this.unread)}>${this.unread}</span>` : nothing}
        </button>
      </div>
    `;
  }

  protected override updated(changed: PropertyValues): void {
    const input = this.input;
    if (input && input.value !== this.draft) input.value = this.draft;
    if (input) {
      input.style.height = "auto";
      input.style.height = `${input.scrollHeight + 2}px`;
    }
    if (this.follow || changed.has("card")) this.toTheEnd();
  }

  private panel(conversation: Conversation): TemplateResult {
    const { strings } = this.words;
    const { transcript, link, outcomes } = conversation;
    const name = transcript.shop?.name ?? "";
    const button = (label: string, icon: TemplateResult, press: () => void, disabled = false): TemplateResult =>
      html`<button class="icon" type="button" title=${label} aria-label=${label} ?disabled=${disabled} @click=${press}>${icon}</button>`;
    return html`
      <div class="head">
        <span class="avatar" aria-hidden="true">${name.slice(0, 1) || icons.chat}</span>
        <div class="who">
          <h2 id="title" tabindex="-1">${name || strings.chat}</h2>
          <p>${strings.assistant}</p>
        </div>
        ${button(strings.person, icons.person, () => this.showCard("person"))}
        ${button(strings.end, icons.end, () => this.showCard("end"), !transcript.entries.length)}
        ${button(strings.close, icons.close, () => this.close())}
      </div>
      ${link === "lost" || link === "outdated"
        ? html`<div class="banner" role="status">
            ${strings[link]}
            ${link === "lost"
              ? html`<button class="plain" type="button" @click=${() => conversation.reconnect()}>${strings.tryNow}</button>`
              : nothing}
          </div>`
        : nothing}
      <div class="scroll" @scroll=${this.scrolled} tabindex="0" aria-label=${strings.chat}>
        <p class="notice">${strings.notice}</p>
        <div role="log" aria-live="polite" aria-relevant="additions text">
          <div class="turn"><div class="answer greeting">${transcript.shop?.greeting || strings.connecting}</div></div>
          ${repeat(
            transcript.entries,
            (entry) => entry.id,
            (entry) => turnView(entry, link === "ready", strings, outcomes.get(thumbPath(entry.turnId ?? "")), this.doing),
          )}
        </div>
        ${transcript.shop && !transcript.entries.length ? this.beginnings() : nothing}
      </div>
      ${this.foot(conversation)}
    `;
  }

  private beginnings(): TemplateResult {
    const { strings } = this.words;
    const questions = this.suggestions.split("|").filter((question) => question.trim());
    return html`<div class="suggestions">
      <p>${questions.length ? strings.ask : strings.askEmpty}</p>
      ${questions.map(
        (question) =>
          html`<button class="chip" type="button" @click=${() => this.say(question.trim())}>${question.trim()}</button>`,
      )}
    </div>`;
  }

  private foot(conversation: Conversation): TemplateResult {
    const { strings } = this.words;
    if (this.card === "person") return personCard(this.contact, strings, () => this.leaveCard());
    if (this.card === "end") {
      const { rating, conversationId } = conversation.transcript;
      return endCard(rating, conversation.outcomes.get(ratingPath(conversationId ?? "")), strings, {
        rate: (value) => conversation.rate(value),
        startOver: () => {
          conversation.startOver();
          this.leaveCard();
        },
        goOn: () => this.leaveCard(),
      });
    }
    const live = conversation.live;
    const go = live
      ? html`<button class="icon go" type="button" aria-label=${strings.stop} title=${strings.stop}
          ?disabled=${!live.responseId} @click=${() => conversation.cancelResponse()}>${icons.stop}</button>`
      : html`<button class="icon go" type="submit" aria-label=${strings.send} title=${strings.send}
          ?disabled=${!this.draft.trim()}>${icons.send}</button>`;
    return html`<form class="composer" @submit=${this.submit}>
      <textarea
        rows="1"
        aria-label=${strings.placeholder}
        placeholder=${strings.placeholder}
        enterkeyhint="send"
        maxlength="4000"
        ?disabled=${conversation.link === "outdated"}
        @input=${this.typed}
        @keydown=${this.typing}
      ></textarea>
      ${go}
    </form>`;
  }

  private say(text: string): void {
    if (!text || this.conversation?.live) return;
    this.follow = true;
    this.draft = "";
    this.conversation?.say(text);
    this.input?.focus();
  }

  private showCard(card: "end" | "person"): void {
    this.card = card;
    void this.updateComplete.then(() => this.renderRoot.querySelector<HTMLElement>(".card button")?.focus());
  }

  private leaveCard(): void {
    this.card = null;
    void this.updateComplete.then(() => this.input?.focus());
  }

  private changed(): void {
    const finished = this.conversation?.transcript.entries.filter((entry) => entry.status === "done").length ?? 0;
    if (!this.opened && finished > this.finished) this.unread += finished - this.finished;
    this.finished = finished;
    this.requestUpdate();
  }

  private submit(event: Event): void {
    event.preventDefault();
    this.say(this.draft.trim());
  }

  private typed(event: Event): void {
    this.draft = (event.target as HTMLTextAreaElement).value;
  }

  private typing(event: KeyboardEvent): void {
    // isComposing: Enter that ends the input of a Chinese or Japanese word sends nothing.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    this.submit(event);
  }

  private key(event: KeyboardEvent): void {
    if (event.key !== "Escape" || event.defaultPrevented) return;
    event.preventDefault();
    if (this.card) this.leaveCard();
    else this.close();
  }

  /** Esc on the sheet: the browser would close it behind our back. */
  private cancelled(event: Event): void {
    event.preventDefault();
  }

  private scrolled(event: Event): void {
    const area = event.target as HTMLElement;
    this.follow = area.scrollHeight - area.scrollTop - area.clientHeight < AT_THE_END_PX;
  }

  private toTheEnd(): void {
    const area = this.renderRoot.querySelector(".scroll");
    area?.scrollTo({ top: area.scrollHeight });
  }

  private get words(): Locale {
    return localeFor([this.locale, document.documentElement.lang, ...navigator.languages]);
  }

  private get dialog(): HTMLDialogElement | null {
    return this.renderRoot.querySelector("dialog");
  }

  private get input(): HTMLTextAreaElement | null {
    return this.renderRoot.querySelector(".composer textarea");
  }

  static override styles = [controls, frame, panel, turns];
}
