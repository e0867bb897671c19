import { keyOf, othersFrom, type Arrival, type Entry } from "./entries";

/** Which messages of one room have not been seen. */
export class Unread {
  #count = $state(0);
  #first = $state<string | null>(null);

  get count(): number {
    return this.#count;
  }

  /** The key of the first new message. It stays after that was seen, until we write something or leave the room. */
  get first(): string | null {
    return this.#first;
  }

  restore(count: number, first: string | null): void {
    this.#count = count;
    this.#first = first;
  }

  add(message: Arrival): void {
    if (this.#count === 0) this.#first = keyOf(message);
    this.#count += 1;
  }

  markSeen(): void {
    this.#count = 0;
  }

  /** What has been seen is no longer new. */
  clearMark(): void {
    if (this.#count === 0) this.#first = null;
  }

  /**
   * Find out what is unread after history was fetched again: everything from the first new message if there was one,
   * else everything after `latest`, the last message we had before (null if that is not known). `me` is the reader.
   */
  recount(entries: readonly Entry[], latest: string | null, me: string): void {
    const indexOf = (key: string | null): number => entries.findIndex((entry) => keyOf(entry) === key);
    if (this.#count > 0) {
      const first = indexOf(this.#first);
      const present = othersFrom(entries, Math.max(first, 0), me).length;
      // Without the first new message in it, the page does not reach back far enough to show all that is unread.
      this.#count = first < 0 ? Math.max(this.#count, present) : present;
    } else if (latest !== null) {
      const unread = othersFrom(entries, indexOf(latest) + 1, me);
      this.#count = unread.length;
      if (unread[0]) this.#first = keyOf(unread[0]);
    }
  }
}
