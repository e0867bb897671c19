import { SvelteMap } from "svelte/reactivity";
import type { RoomInfo } from "./protocol";
import { Room } from "./room.svelte";

const byActivity = (a: Room, b: Room): number => b.activity - a.activity || (a.name < b.name ? -1 : 1);

/** The rooms we are in, and the one that is open. */
export class Rooms {
  #rooms = new SvelteMap<string, Room>();
  #openName = $state<string | null>(null);
  #lastList: readonly Room[] = [];
  #list = $derived.by(() => {
    const list = [...this.#rooms.values()].sort(byActivity);
    // The same array while the order is the same: every message is an activity, and few change the list.
    const isSame = list.length === this.#lastList.length && list.every((room, index) => room === this.#lastList[index]);
    return isSame ? this.#lastList : (this.#lastList = list);
  });

  /** The liveliest first. */
  get list(): readonly Room[] {
    return this.#list;
  }

  get open(): Room | undefined {
    return this.#openName === null ? undefined : this.#rooms.get(this.#openName);
  }

  get unread(): number {
    return this.#list.reduce((sum, room) => sum + room.unread, 0);
  }

  /** Our messages that the gateway does not have, in all rooms. */
  get unsent(): number {
    return this.#list.reduce((sum, room) => sum + room.unsent.length, 0);
  }

  get(name: string): Room | undefined {
    return this.#rooms.get(name);
  }

  /** Open a room, or none. */
  select(name: string | null): void {
    const left = this.open;
    this.#openName = name;
    if (left && left !== this.open) left.markLeft();
    this.open?.markSeen();
  }

  /** A room we are in now; known ones are brought up to date. */
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

  /** These are our rooms, and no others. Of those that are new, nobody knows yet when something happened. */
  replace(infos: readonly RoomInfo[]): void {
    const names = new Set(infos.map((info) => info.room));
    for (const name of [...this.#rooms.keys()]) if (!names.has(name)) this.remove(name);
    for (const info of infos) this.add(info, 0);
  }

  clear(): void {
    this.replace([]);
  }
}
