import type { Arrival, Entry } from "../messages/entries";
import { Messages } from "../messages/messages.svelte";
import type { History, RoomInfo } from "../wire";
import type { SavedRoom } from "../storage/saved";
import { Members } from "./members.svelte";
import { Typing } from "./typing.svelte";

/** One room: who is in it, what has been said there, and what we are about to say. */
export class Room {
  readonly name: string;
  readonly members = new Members();
  readonly messages: Messages;
  readonly typing = new Typing();
  /** The text in the message box. */
  draft = $state("");
  #partner = $state<string>();
  #history = $state<History>("all");
  #addedBy = $state<string>();

  constructor(info: RoomInfo, activity: number) {
    this.name = info.room;
    this.messages = new Messages(activity);
    this.refresh(info);
  }

  /** What the room is called on the page: a direct room by the other user's name. */
  get title(): string {
    return this.#partner ?? this.name;
  }

  /** The other user of a direct room. Only the gateway makes direct rooms, whatever a room is called. */
  get partner(): string | undefined {
    return this.#partner;
  }

  /** Whether the partner is online; undefined in a room that is not direct, or that the partner has left. */
  get partnerOnline(): boolean | undefined {
    return this.members.find(this.#partner)?.online;
  }

  /** What new members can read. */
  get history(): History {
    return this.#history;
  }

  /** Who added us, until we open the room. */
  get addedBy(): string | undefined {
    return this.#addedBy;
  }

  /** What a reload must not lose. */
  get saved(): SavedRoom {
    return { name: this.name, draft: this.draft, ...this.messages.saved };
  }

  restore(saved: SavedRoom): void {
    this.draft = saved.draft;
    this.messages.restore(saved);
  }

  refresh(info: RoomInfo): void {
    this.#partner = info.kind === "direct" ? info.user : undefined;
    this.#history = info.history;
    this.members.refresh(info);
  }

  setAddedBy(username: string): void {
    this.#addedBy = username;
  }

  removeMember(username: string): void {
    this.typing.stop(username);
    this.members.remove(username);
  }

  setPresence(username: string, online: boolean): void {
    if (!online) this.typing.stop(username);
    this.members.setPresence(username, online);
  }

  /** A message has arrived. */
  receive(message: Arrival, seen: boolean): void {
    this.typing.stop(message.from);
    this.messages.receive(message, seen);
  }

  /** We have written a message. */
  addPending(entry: Entry): void {
    this.#addedBy = undefined;
    this.messages.addPending(entry);
  }

  markSeen(): void {
    this.#addedBy = undefined;
    this.messages.markSeen();
  }
}
