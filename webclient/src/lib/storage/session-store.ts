import { readObject } from "./browser";
import type { StoredSession } from "./saved";

/** With the time of writing, in milliseconds. */
type Item = StoredSession & { at: number };

/** Milliseconds after which an item is dropped. No gateway keeps a session for a week. */
const MAX_AGE = 7 * 24 * 3600 * 1000;

/** All sessions of this browser, in localStorage. */
export class SessionStore {
  #storage: Storage | undefined;
  #prefix: string;

  constructor(storage: Storage | undefined, prefix: string) {
    this.#storage = storage;
    this.#prefix = prefix;
  }

  read(sid: string): StoredSession | undefined {
    return asSession(readObject<Item>(this.#storage, this.#keyOf(sid)));
  }

  /** Throws a DOMException if there is no room for it. */
  write(session: StoredSession): void {
    this.#storage?.setItem(this.#keyOf(session.sid), JSON.stringify({ ...session, at: Date.now() }));
  }

  remove(sid: string): void {
    this.#storage?.removeItem(this.#keyOf(sid));
  }

  /** The most recently written first. Removes what is malformed or too old. */
  list(): StoredSession[] {
    const items: Item[] = [];
    for (const key of this.#keys()) {
      const item = readObject<Item>(this.#storage, key);
      if (item?.pid && Date.now() - item.at < MAX_AGE) items.push(item);
      else this.#storage?.removeItem(key);
    }
    return items.sort((a, b) => b.at - a.at).flatMap((item) => asSession(item) ?? []);
  }

  #keyOf(sid: string): string {
    return this.#prefix + sid;
  }

  #keys(): string[] {
    const { length } = this.#storage ?? { length: 0 };
    const keys = Array.from({ length }, (_, index) => this.#storage?.key(index) ?? "");
    return keys.filter((key) => key.startsWith(this.#prefix));
  }
}

function asSession(item: Item | undefined): StoredSession | undefined {
  if (!item?.pid) return undefined;
  const { at: _, ...session } = item;
  return session;
}
