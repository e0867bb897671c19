import { confirm, mergePage, receive, type Entry } from "./entries";
import { withMember, withoutMember, withPresence } from "./members";
import type { Member, Message, RoomInfo } from "./protocol";

/** One room: who is in it, what was said, and what we have not sent yet. */
export class Room {
  readonly name: string;
  /** What stands in the text box. */
  draft = $state("");
  #members = $state.raw<Member[]>([]);
  #memberCount = $state(0);
  #entries = $state.raw<Entry[]>([]);
  #unread = $state(0);
  #activity = $state(0);
  #stale = $state(true);
  #more = $state(false);

  constructor(info: RoomInfo, activity: number) {
    this.name = info.room;
    this.#activity = activity;
    this.refresh(info);
  }

  get members(): readonly Member[] {
    return this.#members;
  }

  get memberCount(): number {
    return this.#memberCount;
  }

  get entries(): readonly Entry[] {
    return this.#entries;
  }

  get unread(): number {
    return this.#unread;
  }

  /** When something last happened here, in milliseconds. */
  get activity(): number {
    return this.#activity;
  }

  /** Whether there may be messages we have not seen: the latest page of history is to be fetched. */
  get stale(): boolean {
    return this.#stale;
  }

  /** Whether there are older messages than the first we have. */
  get more(): boolean {
    return this.#more;
  }

  refresh(info: RoomInfo): void {
    this.#members = info.members;
    this.#memberCount = info.member_count;
  }

  addMember(username: string): void {
    if (this.#members.some((member) => member.username === username)) return;
    this.#members = withMember(this.#members, username);
    this.#memberCount += 1;
  }

  removeMember(username: string): void {
    this.#members = withoutMember(this.#members, username);
    this.#memberCount -= 1;
  }

  setPresence(username: string, online: boolean): void {
    this.#members = withPresence(this.#members, username, online);
  }

  /** Another member's message. */
  receive(message: Message, seen: boolean): void {
    this.#entries = receive(this.#entries, message);
    this.#activity = Math.max(this.#activity, message.ts);
    if (!seen) this.#unread += 1;
  }

  markSeen(): void {
    this.#unread = 0;
  }

  addPage(messages: readonly Message[], more: boolean): void {
    this.#entries = mergePage(this.#entries, messages);
    this.#activity = Math.max(this.#activity, messages.at(-1)?.ts ?? 0);
    this.#more = more;
    this.#stale = false;
  }

  /** Events were missed: what was stored is to be fetched again. Our unsent messages stay. */
  forget(): void {
    this.#entries = this.#entries.filter((entry) => entry.status !== "sent");
    this.#stale = true;
    this.#more = false;
  }

  /** Nothing was said here before us. */
  startFresh(): void {
    this.#stale = false;
  }

  addPending(entry: Entry): void {
    this.#entries = [...this.#entries, entry];
    this.#activity = entry.ts;
  }

  confirm(id: string, ts: number): void {
    this.#entries = confirm(this.#entries, id, ts);
  }

  setFailed(id: string, problem: string): void {
    this.#update(id, { status: "failed", problem });
  }

  setPending(id: string): void {
    this.#update(id, { status: "pending" });
  }

  #update(id: string, change: Partial<Entry>): void {
    this.#entries = this.#entries.map((entry) => (entry.id === id ? { ...entry, ...change } : entry));
  }
}
