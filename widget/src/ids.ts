// Random ids for messages and feedback, 32 hexadecimal characters.
// crypto.randomUUID exists only in secure contexts; a shop on plain http must work too.

export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
