import { browserStorage, readObject } from "./browser";
import type { SavedSession } from "./saved";
import { SessionLock } from "./session-lock";
import { SessionStore } from "./session-store";

type Marker = Pick<SavedSession, "sid" | "elsewhere">;

/**
 * Which session this tab is in. A marker in sessionStorage says it, for a reload; a duplicated tab starts with a copy.
 * The session itself is in the store that all tabs share, and the tab that is in it holds its lock.
 */
export class Tab {
  #storage: Storage | undefined;
  #key: string;
  #store: SessionStore;
  #lock: SessionLock;
  #hasLocks: boolean;

  constructor({ tab, shared, locks, prefix } = browserStorage()) {
    this.#storage = tab;
    this.#key = prefix;
    this.#store = new SessionStore(shared, prefix);
    this.#lock = new SessionLock(locks, prefix);
    this.#hasLocks = locks !== undefined;
  }

  /** The session this tab was in when it was reloaded or duplicated. */
  read(): SavedSession | undefined {
    const marker = this.#marker;
    const session = marker && this.#store.read(marker.sid);
    return session && { ...session, elsewhere: marker.elsewhere };
  }

  /**
   * Enter the most recent session that no other tab is in. With a name, only a session of that name; it is then taken
   * even if there is no way of knowing whether another tab is in it.
   */
  async adopt(username?: string): Promise<SavedSession | undefined> {
    if (!this.#hasLocks && username === undefined) return undefined;
    for (const session of this.#store.list()) {
      if (username !== undefined && session.username !== username) continue;
      if (await this.#lock.tryAcquire(session.sid)) return { ...session, elsewhere: false };
    }
    return undefined;
  }

  /** Be in this session and in no other; a session that this tab was in before is forgotten. */
  enter(sid: string): void {
    const before = this.#sid;
    if (before !== undefined && before !== sid) this.forget();
    if (this.#lock.sid !== sid) void this.#lock.acquire(sid);
  }

  /** Save the session. If there is no room for it, nothing is left of it, and a reload starts from the login form. */
  write({ elsewhere, ...session }: SavedSession): void {
    try {
      this.#store.write(session);
      this.#mark({ sid: session.sid, elsewhere });
    } catch {
      this.#remove(session.sid);
    }
  }

  /** Another tab has taken the session over. */
  yield(): void {
    this.#lock.release();
    const marker = this.#marker;
    if (marker) this.#mark({ ...marker, elsewhere: true });
  }

  /** Be in no session. The one this tab was in stays, for another tab to adopt. */
  leave(): void {
    this.#lock.release();
    this.#storage?.removeItem(this.#key);
  }

  /** The session is over. */
  forget(): void {
    const sid = this.#sid;
    if (sid !== undefined) this.#remove(sid);
    this.leave();
  }

  get #sid(): string | undefined {
    return this.#lock.sid ?? this.#marker?.sid;
  }

  get #marker(): Marker | undefined {
    return readObject<Marker>(this.#storage, this.#key);
  }

  #mark(marker: Marker): void {
    this.#storage?.setItem(this.#key, JSON.stringify(marker));
  }

  #remove(sid: string): void {
    this.#store.remove(sid);
    this.#storage?.removeItem(this.#key);
  }
}
