/**
 * What outlives the page. Of every session of this browser, in localStorage: what a tab needs to go on with it. Of this
 * tab, in sessionStorage: which session it is in, for a reload; a duplicated tab begins with a copy of that.
 *
 * A tab that is in a session holds a lock of that name (Web Locks), which ends with the tab, however the tab ends. So a
 * tab that is opened anew finds the sessions that no other is in. On plain http:// pages there are no locks.
 */

import { basePath } from "./address";
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

/** What the sessions of this browser are found by. `at` is when it was written, in milliseconds. */
type Left = Omit<Kept, "elsewhere"> & { at: number };
type Own = Pick<Kept, "sid" | "elsewhere">;

interface Places {
  own: Storage | undefined;
  shared: Storage | undefined;
  locks: Pick<LockManager, "request"> | undefined;
  /** Several gateways may share an origin, each under a path. */
  path: string;
}

/** No gateway keeps a session for a week. */
const KEPT_FOR = 7 * 24 * 3600 * 1000;

export class Tab {
  #places: Places;
  #held: { sid: string; release: () => void } | undefined;

  constructor(places = placesOfBrowser()) {
    this.#places = places;
  }

  /** What this tab was in when it was reloaded, or when it was duplicated. */
  read(): Kept | undefined {
    const own = this.#own;
    const left = own && parse<Left>(this.#places.shared, this.#keyOf(own.sid));
    if (!own || !left?.pid) return undefined;
    const { at: _, ...kept } = left;
    return { ...kept, elsewhere: own.elsewhere };
  }

  /**
   * The session that was left last and that no other tab is in; from now on this one is. With a name, only one of that
   * name: it is taken then even where nobody knows whether another tab is in it.
   */
  async adopt(username?: string): Promise<Kept | undefined> {
    if (!this.#places.locks && username === undefined) return undefined;
    const candidates = this.#all().filter((left) => username === undefined || left.username === username);
    for (const { at: _, ...kept } of candidates) {
      if (await this.#hold(kept.sid, true)) return { ...kept, elsewhere: false };
    }
    return undefined;
  }

  /** This tab is in that session now, and in no other. */
  enter(sid: string): void {
    const before = this.#held?.sid ?? this.#own?.sid;
    if (before !== undefined && before !== sid) this.forget();
    if (this.#held?.sid !== sid) void this.#hold(sid, false);
  }

  /** Where there is no place for it, a reload is a new beginning. */
  write({ elsewhere, ...kept }: Kept): void {
    try {
      this.#places.shared?.setItem(this.#keyOf(kept.sid), JSON.stringify({ ...kept, at: Date.now() }));
      this.#places.own?.setItem(this.#key, JSON.stringify({ sid: kept.sid, elsewhere }));
    } catch {
      this.#remove(kept.sid);
    }
  }

  /** Another tab is in the session. */
  stepAside(): void {
    this.#release();
    const own = this.#own;
    if (own) this.#places.own?.setItem(this.#key, JSON.stringify({ ...own, elsewhere: true }));
  }

  /** This tab is in no session; the one it was in goes on, for whoever wants it. */
  letGo(): void {
    this.#release();
    this.#places.own?.removeItem(this.#key);
  }

  /** The session is over. */
  forget(): void {
    const sid = this.#held?.sid ?? this.#own?.sid;
    if (sid !== undefined) this.#remove(sid);
    this.letGo();
  }

  get #key(): string {
    return `chat-gateway ${this.#places.path} `;
  }

  #keyOf(sid: string): string {
    return `${this.#key}${sid}`;
  }

  get #own(): Own | undefined {
    return parse<Own>(this.#places.own, this.#key);
  }

  #remove(sid: string): void {
    this.#places.shared?.removeItem(this.#keyOf(sid));
    this.#places.own?.removeItem(this.#key);
  }

  /** The sessions of this browser, the one written last first. Very old ones go. */
  #all(): Left[] {
    const { shared } = this.#places;
    const keys = Array.from({ length: shared?.length ?? 0 }, (_, index) => shared?.key(index) ?? "");
    const all: Left[] = [];
    for (const key of keys.filter((key) => key.startsWith(this.#key))) {
      const left = parse<Left>(shared, key);
      if (left?.pid && Date.now() - left.at < KEPT_FOR) all.push(left);
      else shared?.removeItem(key);
    }
    return all.sort((one, other) => other.at - one.at);
  }

  /** Hold the lock of a session: whether that could be done at once, or as soon as the tab that has it lets it go. */
  #hold(sid: string, atOnce: boolean): Promise<boolean> {
    this.#release();
    const ended = new AbortController();
    this.#held = { sid, release: () => ended.abort() };
    const { locks } = this.#places;
    if (!locks) return Promise.resolve(true);
    const whenEnded = new Promise<void>((resolve) => ended.signal.addEventListener("abort", () => resolve()));
    return new Promise((done) => {
      const options = atOnce ? { ifAvailable: true } : { signal: ended.signal };
      const request = locks.request(this.#keyOf(sid), options, (lock) => {
        if (lock === null) this.#held = undefined;
        done(lock !== null);
        return lock === null ? undefined : whenEnded;
      });
      request.catch(() => done(false)); // ended before it was our turn
    });
  }

  #release(): void {
    this.#held?.release();
    this.#held = undefined;
  }
}

function parse<T extends object>(storage: Storage | undefined, key: string): T | undefined {
  try {
    return (JSON.parse(storage?.getItem(key) ?? "null") as T | null) ?? undefined;
  } catch {
    return undefined;
  }
}

/** A browser may be told to keep nothing. */
function placesOfBrowser(): Places {
  const available = (find: () => Storage): Storage | undefined => {
    try {
      return find();
    } catch {
      return undefined;
    }
  };
  return {
    own: available(() => sessionStorage),
    shared: available(() => localStorage),
    locks: (navigator as Partial<Navigator>).locks,
    path: basePath(document.baseURI),
  };
}
