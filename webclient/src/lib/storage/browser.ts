/** What the browser offers for keeping things beyond the life of the page. */

import { basePath } from "../page/address";

export interface BrowserStorage {
  /** Of this tab; a duplicated tab starts with a copy. Undefined if the browser has been told to store nothing. */
  tab: Storage | undefined;
  /** Shared by all tabs of this origin. */
  shared: Storage | undefined;
  /** Web Locks; missing on plain http:// pages. */
  locks: Pick<LockManager, "request"> | undefined;
  /** What all our names begin with: gateways under several paths may share an origin. */
  prefix: string;
}

export const prefixFor = (path: string): string => `chat-gateway ${path} `;

export function browserStorage(): BrowserStorage {
  return {
    tab: available(() => sessionStorage),
    shared: available(() => localStorage),
    locks: (navigator as Partial<Navigator>).locks,
    prefix: prefixFor(basePath(document.baseURI)),
  };
}

/** The object stored under a key, or undefined if there is none. */
export function readObject<T extends object>(storage: Storage | undefined, key: string): T | undefined {
  try {
    return (JSON.parse(storage?.getItem(key) ?? "null") as T | null) ?? undefined;
  } catch {
    return undefined;
  }
}

function available(find: () => Storage): Storage | undefined {
  try {
    return find();
  } catch {
    return undefined;
  }
}
