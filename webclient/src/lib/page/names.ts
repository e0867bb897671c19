/** Names of people, rooms and messages. */

/** Split usernames typed by hand: "bob, Carol" are two. */
export function parseNames(text: string): string[] {
  const names = text
    .toLowerCase()
    .split(/[\s,;]+/)
    .filter(Boolean);
  return [...new Set(names)];
}

/** A random id for a message. (`crypto.randomUUID` is missing on plain http:// pages.) */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** One of `HUES` colours, always the same for a name. */
export function hueOf(name: string): number {
  let sum = 0;
  for (const character of name) sum = (sum * 31 + (character.codePointAt(0) ?? 0)) % 9973;
  return sum % HUES;
}

/** How many `.hue-N` classes app.css has. */
export const HUES = 8;
