/** What the browser offers for storage, as far as the tests need it. */

import { prefixFor, type BrowserStorage } from "../storage/browser";

/** A Storage that is full once a value has more characters than `limit`. */
export function fakeStorage(limit = Infinity): Storage {
  const items = new Map<string, string>();
  return {
    get length() {
      return items.size;
    },
    key: (index) => [...items.keys()][index] ?? null,
    clear: () => items.clear(),
    getItem: (key) => items.get(key) ?? null,
    removeItem: (key) => void items.delete(key),
    setItem: (key, value) => {
      if (value.length > limit) throw new DOMException("full", "QuotaExceededError");
      items.set(key, value);
    },
  };
}

/** Web Locks, exclusive ones only. Node has them too, but not in every version that we build with. */
export class FakeLocks {
  #queues = new Map<string, Promise<unknown>>();

  request = (async (name: string, options: LockOptions, callback: LockGrantedCallback<unknown>) => {
    const previous = this.#queues.get(name);
    if (previous && options.ifAvailable) return callback(null);
    const holding = (async () => {
      await previous?.catch(() => {});
      options.signal?.throwIfAborted();
      await callback({ name, mode: "exclusive" });
    })();
    this.#queues.set(name, holding);
    try {
      await holding;
    } finally {
      if (this.#queues.get(name) === holding) this.#queues.delete(name);
    }
  }) as LockManager["request"];
}

/** One browser, in which tabs are opened. */
export class FakeBrowser {
  readonly shared: Storage;
  readonly locks: Pick<LockManager, "request"> | undefined;

  constructor(shared = fakeStorage(), locks: Pick<LockManager, "request"> | undefined = new FakeLocks()) {
    this.shared = shared;
    this.locks = locks;
  }

  /** For one tab, whose own storage survives a reload. */
  tab(tab: Storage | undefined = fakeStorage(), path = "/"): BrowserStorage {
    return { tab, shared: this.shared, locks: this.locks, prefix: prefixFor(path) };
  }
}
