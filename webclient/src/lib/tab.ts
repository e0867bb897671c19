/** What this tab keeps over a reload, in sessionStorage. A duplicated tab begins with a copy. */

import type { Entry } from "./entries";

export interface KeptRoom {
  name: string;
  draft: string;
  unsent: Entry[];
  unread: number;
  /** The key of the first message that was not seen, if there is one. */
  newFrom: string | null;
  /** The key of the last message; empty where there was none, null where that is not known. */
  latest: string | null;
  activity: number;
}

export interface Kept {
  username: string;
  /** Of the session: public, and secret. */
  sid: string;
  pid: string;
  /** The session was taken over: it is not to be taken back without being asked. */
  elsewhere: boolean;
  open: string | null;
  rooms: KeptRoom[];
}

const KEY = "chat-gateway";

export class Tab {
  #storage: Storage | undefined;

  constructor(storage = available()) {
    this.#storage = storage;
  }

  read(): Kept | undefined {
    try {
      const kept = JSON.parse(this.#storage?.getItem(KEY) ?? "null") as Kept | null;
      return kept?.pid ? kept : undefined;
    } catch {
      return undefined;
    }
  }

  /** Where there is no place for it, a reload is a new beginning. */
  write(kept: Kept): void {
    try {
      this.#storage?.setItem(KEY, JSON.stringify(kept));
    } catch {
      this.forget();
    }
  }

  forget(): void {
    this.#storage?.removeItem(KEY);
  }
}

/** A browser may be told to keep nothing. */
function available(): Storage | undefined {
  try {
    return sessionStorage;
  } catch {
    return undefined;
  }
}
