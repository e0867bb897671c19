import { SvelteMap } from "svelte/reactivity";
import type { RoomInfo } from "../wire";
import type { SavedRooms } from "../storage/saved";
import { Room } from "./room.svelte";

const byActivity = (a: Room, b: Room): number => b.messages.activity - a.messages.activity || (a.name < b.name ? -1 : 1);

/** The rooms we are in, and the one that is open. */
export class Rooms {
  #rooms = new SvelteMap<string, Room>();
  #openName = $state<string | null>(null);
  #lastList: readonly Room[] = [];
  #list = $derived.by(() => {
    const list = [...this.#rooms.values()].sort(byActivity);
    // Every message is an activity, and few change the order: while none does, the array stays the same.
    const isSame = list.length === this.#lastList.length && list.every((room, index) => room === this.#lastList[index]);
    return isSame ? this.#lastList : (this.#lastList = list);
  });

  /** The most recently active first. */
  get list(): readonly Room[] {
    return this.#list;
  }

  get open(): Room | undefined {
    return this.#openName === null ? undefined : this.#rooms.get(this.#openName);
  }

  get unread(): number {
    return this.#list.reduce((sum, room) => sum + room.messages.unread, 0);
  }

  /** How many messages of ours, in all rooms, the gateway does not have. */
  get unsent(): number {
    return this.#list.reduce((sum, room) => sum + room.messages.unsent.length, 0);
  }

  /** What a reload must not lose. */
  get saved(): SavedRooms {
    return { open: this.open?.name ?? null, rooms: this.#list.map((room) => room.saved) };
  }

  get(name: string): Room | undefined {
    return this.#rooms.get(name);
  }

  /** Open a room, or none. */
  select(name: string | null): void {
    const left = this.open;
    this.#openName = name;
    if (left && left !== this.open) left.messages.markLeft();
    this.open?.markSeen();
  }

  /** Whether the reader sees what arrives in this room: it is open, scrolled to the end, and on the screen. */
  isRead(room: Room | undefined): boolean {
    return room !== undefined && room === this.open && room.messages.atEnd && !document.hidden;
  }

  /** Called when the reader reaches the end of the open room, or comes back to the page. */
  markSeen(): void {
    const room = this.open;
    if (this.isRead(room)) room?.markSeen();
  }

  /** We are in this room now; a known one is brought up to date. */
  add(info: RoomInfo, activity = Date.now()): Room {
    const known = this.#rooms.get(info.room);
    if (known) {
      known.refresh(info);
      return known;
    }
    const room = new Room(info, activity);
    this.#rooms.set(room.name, room);
    return room;
  }

  remove(name: string): void {
    this.#rooms.delete(name);
    if (this.#openName === name) this.#openName = null;
  }

  /** We are in these rooms and in no others. When something last happened in the new ones is not known yet. */
  replace(infos: readonly RoomInfo[]): void {
    const names = new Set(infos.map((info) => info.room));
    for (const name of [...this.#rooms.keys()]) if (!names.has(name)) this.remove(name);
    for (const info of infos) this.add(info, 0);
  }

  clear(): void {
    this.replace([]);
  }
}
