import type { SavedMessages } from "../storage/saved";
import { confirm, isSent, keepLatest, keyOf, mergePage, receive, type Arrival, type Entry } from "./entries";
import { Unread } from "./unread.svelte";

/** How many stored messages of a room are kept while its reader is at the end, and otherwise. */
export const KEPT_AT_END = 300;
export const KEPT = 2_000;

/** A reading position: this message, and its distance in pixels above the top of the list. */
export interface Place {
  key: string;
  above: number;
}

/** The messages of one room: those that are stored, those we have not sent yet, and how far they have been read. */
export class Messages {
  /** Whether the reader is at the end. */
  atEnd = $state(true);
  /** The reading position, unless at the end. */
  place: Place | undefined;
  #entries = $state.raw<readonly Entry[]>([]);
  #unread = new Unread();
  /** What `SavedMessages.latest` was before the entries were forgotten. */
  #latest = $state<string | null>(null);
  #activity = $state(0);
  #stale = $state(true);
  #more = $state(false);

  constructor(activity = 0) {
    this.#activity = activity;
  }

  get entries(): readonly Entry[] {
    return this.#entries;
  }

  get last(): Entry | undefined {
    return this.#entries.at(-1);
  }

  /** The oldest stored message that we have. */
  get oldest(): Entry | undefined {
    return this.#entries.find(isSent);
  }

  get unsent(): Entry[] {
    return this.#entries.filter((entry) => !isSent(entry));
  }

  /** How many have not been seen. */
  get unread(): number {
    return this.#unread.count;
  }

  /** The key of the first new message; see `Unread.first`. */
  get newFrom(): string | null {
    return this.#unread.first;
  }

  /** When something last happened in the room, in milliseconds. */
  get activity(): number {
    return this.#activity;
  }

  /** Whether we may have missed messages: the latest page of history has to be fetched. */
  get stale(): boolean {
    return this.#stale;
  }

  /** Whether there are messages before the oldest we have, and room for them. */
  get more(): boolean {
    return this.#more && this.#entries.length < KEPT;
  }

  get saved(): SavedMessages {
    const { unsent, activity, unread } = this;
    const last = this.#entries.findLast(isSent);
    const latest = last ? keyOf(last) : this.#stale ? this.#latest : "";
    return { unsent, activity, unread, newFrom: unread > 0 ? this.newFrom : null, latest };
  }

  restore({ unsent, activity, unread, newFrom, latest }: SavedMessages): void {
    this.#activity = activity;
    this.#unread.restore(unread, newFrom);
    this.#latest = latest;
    this.#entries = [...this.#entries, ...unsent];
  }

  receive(message: Arrival, seen: boolean): void {
    if (!seen) this.#unread.add(message);
    this.#activity = Math.max(this.#activity, message.ts);
    this.#keep(receive(this.#entries, message));
  }

  markSeen(): void {
    this.#unread.markSeen();
  }

  /** The reader has left the room: what was new and has been seen is not new any more. */
  markLeft(): void {
    this.#unread.clearMark();
  }

  /** A page of history has been fetched; `me` is the reader. */
  addPage(messages: readonly Arrival[], more: boolean, me: string): void {
    this.#keep(mergePage(this.#entries, messages));
    this.#activity = Math.max(this.#activity, messages.at(-1)?.ts ?? 0);
    this.#more = more;
    if (this.#stale) this.#unread.recount(this.#entries, this.#latest, me);
    this.#stale = false;
  }

  /** Events were missed: stored messages have to be fetched again. Our unsent ones stay. */
  forget(): void {
    this.#latest = this.saved.latest;
    this.#entries = this.unsent;
    this.#stale = true;
    this.#more = false;
  }

  /** The room is new: it has no history. */
  startFresh(): void {
    this.#stale = false;
  }

  addPending(entry: Entry): void {
    this.markSeen();
    this.markLeft();
    this.#entries = [...this.#entries, entry];
    this.#activity = entry.ts;
  }

  confirm(entry: Entry, ts: number): void {
    this.#keep(confirm(this.#entries, keyOf(entry), ts));
  }

  setFailed(entry: Entry, problem: string): void {
    this.#update(entry, { status: "failed", problem });
  }

  setPending(entry: Entry): void {
    this.#update(entry, { status: "pending" });
  }

  /** Remove a message that was not sent. */
  discard(entry: Entry): void {
    this.#entries = this.#entries.filter((other) => keyOf(other) !== keyOf(entry));
  }

  #keep(entries: readonly Entry[]): void {
    this.#entries = keepLatest(entries, this.atEnd ? KEPT_AT_END : KEPT);
    if (this.#entries.length < entries.length) this.#more = true;
  }

  #update(entry: Entry, change: Partial<Entry>): void {
    const key = keyOf(entry);
    this.#entries = this.#entries.map((other) => (keyOf(other) === key ? { ...other, ...change } : other));
  }
}
