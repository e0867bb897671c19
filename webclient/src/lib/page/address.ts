/** The path that the page is served under, such as `/` or `/chat/`. The gateway is under the same path. */
export const basePath = (page: string): string => new URL(".", page).pathname;

/** The open room is in the fragment of the address, so that the browser's "back" button leaves it. */
export const hashOf = (room: string): string => `#${encodeURIComponent(room)}`;

/** The room that a fragment names, or null. */
export function roomIn(hash: string): string | null {
  try {
    return decodeURIComponent(hash.replace(/^#/, "")) || null;
  } catch {
    return null;
  }
}
