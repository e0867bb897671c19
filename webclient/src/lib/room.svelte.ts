import {
  confirm,
  isSent,
  keepLatest,
  keyOf,
  mergePage,
  othersFrom,
  receive,
  type Arrival,
  type Entry,
} from "./entries";
import { withMember, withoutMember, withPresence } from "./members";
import type { History, Member, RoomInfo } from "./protocol";
import type { KeptRoom } from "./tab";
import { Typing } from "./typing.svelte";

/** Stored messages that are kept of a room while its reader is at the end, and in any case. */
export const KEPT_AT_END = 300;
export const KEPT = 2_000;

/** Where a reader was: at this message, so many pixels above the top of the list. */
export interface Place {
  key: string;
  above: number;
}

/** One room: who is in it, what was said, what was seen of it, and what we have not sent yet. */
export class Room {
  readonly name: string;
  readonly typing = new Typing();
  /** What stands in the text box. */
  draft = $state("");
  /** Whether the reader is at the end of the messages. */
  atEnd = $state(true);
  /** Where the reader was when the room was left, unless at the end. */
  place: Place | undefined;
  #partner = $state<string>();
  #history = $state<History>("all");
  #members = $state.raw<Member[]>([]);
  #memberCount = $state(0);
  #addedBy = $state<string>();
  #entries = $state.raw<readonly Entry[]>([]);
  #unread = $state(0);
  #newFrom = $state<string | null>(null);
  /** Of what is to be fetched again: see `KeptRoom`. */
  #latest = $state<string | null>(null);
  #activity = $state(0);
  #stale = $state(true);
  #more = $state(false);

  constructor(info: RoomInfo, activity: number) {
    this.name = info.room;
    this.#activity = activity;
    this.refresh(info);
  }

  /** What the room is called: a direct one by the other of the two. */
  get title(): string {
    return this.#partner ?? this.name;
  }

  /** The other of the two, in a direct room; only the gateway makes one, whatever a room is called. */
  get partner(): string | undefined {
    return this.#partner;
  }

  /** Whether the other of the two is online; undefined in a room that is not direct, or that the other has left. */
  get partnerOnline(): boolean | undefined {
    return this.#members.find((member) => member.username === this.#partner)?.online;
  }

  /** What new members can read. */
  get history(): History {
    return this.#history;
  }

  /** Those we know of: all, unless there are many. */
  get members(): readonly Member[] {
    return this.#members;
  }

  get memberCount(): number {
    return this.#memberCount;
  }

  /** Whether there are members besides those we know of. */
  get isPartial(): boolean {
    return this.#memberCount > this.#members.length;
  }

  /** Who added us, until the room was opened. */
  get addedBy(): string | undefined {
    return this.#addedBy;
  }

  get entries(): readonly Entry[] {
    return this.#entries;
  }

  get unsent(): Entry[] {
    return this.#entries.filter((entry) => !isSent(entry));
  }

  get unread(): number {
    return this.#unread;
  }

  /** The key of the first message that was not seen; it stays after that, until something is sent or the room left. */
  get newFrom(): string | null {
    return this.#newFrom;
  }

  /** When something last happened here, in milliseconds. */
  get activity(): number {
    return this.#activity;
  }

  /** Whether there may be messages we have not seen: the latest page of history is to be fetched. */
  get stale(): boolean {
    return this.#stale;
  }

  /** Whether there are older messages than the first we have, and place for them. */
  get more(): boolean {
    return this.#more && this.#entries.length < KEPT;
  }

  /** What a reload must not lose. */
  get kept(): KeptRoom {
    const { name, draft, unsent, activity, unread } = this;
    const last = this.#entries.findLast(isSent);
    const latest = last ? keyOf(last) : this.#stale ? this.#latest : "";
    return { name, draft, unsent, activity, unread, newFrom: unread > 0 ? this.#newFrom : null, latest };
  }

  restore({ draft, unsent, activity, unread, newFrom, latest }: KeptRoom): void {
    this.draft = draft;
    this.#activity = activity;
    this.#unread = unread;
    this.#newFrom = newFrom;
    this.#latest = latest;
    this.#entries = [...this.#entries, ...unsent];
  }

  refresh(info: RoomInfo): void {
    this.#partner = info.kind === "direct" ? info.user : undefined;
    this.#history = info.history;
    this.#members = info.members;
    this.#memberCount = info.member_count;
  }

  setAddedBy(username: string): void {
    this.#addedBy = username;
  }

  /** These are all. */
  setMembers(members: Member[]): void {
    this.#members = members;
    this.#memberCount = members.length;
  }

  addMember(username: string): void {
    if (this.#members.some((member) => member.username === username)) return;
    this.#members = withMember(this.#members, username);
    this.#memberCount += 1;
  }

  removeMember(username: string): void {
    this.typing.stop(username);
    const others = withoutMember(this.#members, username);
    this.#memberCount = this.isPartial ? this.#memberCount - 1 : others.length;
    this.#members = others;
  }

  setPresence(username: string, online: boolean): void {
    if (!online) this.typing.stop(username);
    this.#members = withPresence(this.#members, username, online);
  }

  /** Another member's message. */
  receive(message: Arrival, seen: boolean): void {
    this.typing.stop(message.from);
    if (!seen) {
      if (this.#unread === 0) this.#newFrom = keyOf(message);
      this.#unread += 1;
    }
    this.#activity = Math.max(this.#activity, message.ts);
    this.#keep(receive(this.#entries, message));
  }

  markSeen(): void {
    this.#unread = 0;
    this.#addedBy = undefined;
  }

  /** The reader turned away: what comes now is new, and what was is not. */
  markLeft(): void {
    if (this.#unread === 0) this.#newFrom = null;
  }

  /** A page of history, read by `me`. */
  addPage(messages: readonly Arrival[], more: boolean, me: string): void {
    this.#keep(mergePage(this.#entries, messages));
    this.#activity = Math.max(this.#activity, messages.at(-1)?.ts ?? 0);
    this.#more = more;
    if (this.#stale) this.#recount(me);
    this.#stale = false;
  }

  /** Events were missed: what was stored is to be fetched again. Our unsent messages stay. */
  forget(): void {
    this.#latest = this.kept.latest;
    this.#entries = this.unsent;
    this.#stale = true;
    this.#more = false;
  }

  /** Nothing was said here before us. */
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

  /** Give up a message that was not sent. */
  discard(entry: Entry): void {
    this.#entries = this.#entries.filter((other) => keyOf(other) !== keyOf(entry));
  }

  /** What is unread in the page that was fetched: what comes after the last message we had, or what was new before. */
  #recount(me: string): void {
    const find = (wanted: string | null): number => this.#entries.findIndex((entry) => keyOf(entry) === wanted);
    if (this.#unread > 0) {
      const first = find(this.#newFrom);
      const shown = othersFrom(this.#entries, Math.max(first, 0), me).length;
      this.#unread = first < 0 ? Math.max(this.#unread, shown) : shown;
    } else if (this.#latest !== null) {
      const unread = othersFrom(this.#entries, find(this.#latest) + 1, me);
      this.#unread = unread.length;
      if (unread[0]) this.#newFrom = keyOf(unread[0]);
    }
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
