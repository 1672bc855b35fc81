// What the visitor said or judged and the server has not confirmed: kept until it is, over reloads too.
// Knows no network. Invariants: an item keeps its id for as long as it lives, so that sending it twice
// changes nothing; of two unsent judgements of one target only the later stays.

export interface QueuedMessage {
  readonly kind: "message";
  readonly id: string;
  readonly text: string;
}

export interface QueuedFeedback {
  readonly kind: "feedback";
  readonly id: string;
  /** The resource that the body is PUT to, relative to the server. */
  readonly path: string;
  readonly body: Readonly<Record<string, unknown>>;
}

export type Item = QueuedMessage | QueuedFeedback;

/** The part of the Storage interface that an outbox needs. */
export interface Shelf {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

export class Outbox {
  private items: readonly Item[];

  constructor(
    private readonly shelf: Shelf,
    private readonly key: string,
  ) {
    this.items = read(shelf.getItem(key));
  }

  get messages(): readonly QueuedMessage[] {
    return this.items.filter((item) => item.kind === "message");
  }

  get feedback(): readonly QueuedFeedback[] {
    return this.items.filter((item) => item.kind === "feedback");
  }

  put(item: Item): void {
    const replaced = (old: Item): boolean =>
      old.id === item.id || (old.kind === "feedback" && item.kind === "feedback" && old.path === item.path);
    this.save([...this.items.filter((old) => !replaced(old)), item]);
  }

  remove(id: string): void {
    this.save(this.items.filter((item) => item.id !== id));
  }

  private save(items: readonly Item[]): void {
    this.items = items;
    if (items.length) this.shelf.setItem(this.key, JSON.stringify(items));
    else this.shelf.removeItem(this.key);
  }
}

function read(raw: string | null): Item[] {
  try {
    const items: unknown = JSON.parse(raw ?? "[]");
    return Array.isArray(items) ? items.filter(isItem) : [];
  } catch {
    return [];
  }
}

function isItem(value: unknown): value is Item {
  if (typeof value !== "object" || value === null) return false;
  const item = value as Record<string, unknown>;
  if (typeof item.id !== "string") return false;
  if (item.kind === "message") return typeof item.text === "string";
  return item.kind === "feedback" && typeof item.path === "string" && typeof item.body === "object";
}
