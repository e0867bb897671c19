import type { Identity, Session } from "../connection/session.svelte";
import type { Rooms } from "../rooms/rooms.svelte";
import type { SavedSession } from "./saved";
import type { Tab } from "./tab";

/** Saves what a reload must not lose, and restores it once the gateway has said which rooms we are in. */
export class Persistence {
  #tab: Tab;
  #session: Session;
  #rooms: Rooms;
  /** Read from the browser, and not restored yet. Until then this, and not the rooms, is what must not be lost. */
  #pending = $state.raw<SavedSession>();

  constructor(tab: Tab, session: Session, rooms: Rooms) {
    this.#tab = tab;
    this.#session = session;
    this.#rooms = rooms;
  }

  /** How many messages of ours the gateway does not have. */
  get unsent(): number {
    return this.#pending ? this.#pending.rooms.flatMap((room) => room.unsent).length : this.#rooms.unsent;
  }

  /**
   * Whether the gateway's giving us this session means that we have lost another one, and the rooms in it. A session
   * without rooms ends with its connection: the new one is just as good, and nothing is lost.
   */
  hasLost({ sid }: Identity): boolean {
    const before = this.#pending ?? this.#session.identity;
    const rooms = this.#pending?.rooms ?? this.#rooms.list;
    return before !== undefined && before.sid !== sid && rooms.length > 0;
  }

  /** The session that this tab was in before a reload. */
  load(): SavedSession | undefined {
    return (this.#pending = this.#tab.read());
  }

  /** A session whose tab is gone; see `Tab.adopt`. */
  async adopt(username?: string): Promise<SavedSession | undefined> {
    return (this.#pending = await this.#tab.adopt(username));
  }

  enter({ sid }: Identity): void {
    this.#tab.enter(sid);
  }

  /** Called by an effect whenever any of it changes, and when the page is hidden. */
  save(): void {
    const { phase, username, identity } = this.#session;
    if (phase === "elsewhere") return this.#tab.yield();
    if (!identity) return;
    const { open, rooms } = this.#pending ?? this.#rooms.saved;
    this.#tab.write({ username, ...identity, elsewhere: false, open, rooms });
  }

  /** Put drafts, unsent messages and what was unread back into the rooms that we are still in. */
  restore(): void {
    const saved = this.#pending;
    this.#pending = undefined;
    for (const room of saved?.rooms ?? []) this.#rooms.get(room.name)?.restore(room);
    if (saved && !this.#rooms.open) this.#rooms.select(saved.open);
  }

  /** Restore nothing. */
  discard(): void {
    this.#pending = undefined;
  }

  /** Be in no session, and leave the one we were in for another tab. */
  leave(): void {
    this.#tab.leave();
    this.discard();
  }

  /** The session is over. */
  forget(): void {
    this.#tab.forget();
    this.discard();
  }
}
