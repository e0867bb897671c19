/** Usernames typed by hand: "bob, Carol" are two. */
export function parseNames(text: string): string[] {
  const names = text
    .toLowerCase()
    .split(/[\s,;]+/)
    .filter(Boolean);
  return [...new Set(names)];
}
