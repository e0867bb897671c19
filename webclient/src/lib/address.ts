/** The path that the page is under, `/` or `/chat/`: the gateway is under the same. */
export const basePath = (page: string): string => new URL(".", page).pathname;

/** The open room stands in the address, so that the browser's "back" leads out of it. */

export const hashOf = (room: string): string => `#${encodeURIComponent(room)}`;

/** The room that a hash names, or null. */
export function roomIn(hash: string): string | null {
  try {
    return decodeURIComponent(hash.replace(/^#/, "")) || null;
  } catch {
    return null;
  }
}
