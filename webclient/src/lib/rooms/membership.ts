import type { Caller } from "../connection/gateway";
import type { Notice } from "../page/notice.svelte";
import { describeDeclined } from "../page/sentences";
import type { History } from "../wire";
import type { Room } from "./room.svelte";
import type { Rooms } from "./rooms.svelte";

/** Creates rooms, adds people to them, and leaves them. */
export class Membership {
  #gateway: Caller;
  #rooms: Rooms;
  #notice: Notice;

  constructor(gateway: Caller, rooms: Rooms, notice: Notice) {
    this.#gateway = gateway;
    this.#rooms = rooms;
    this.#notice = notice;
  }

  /** Rejects with the reason. */
  async create(name: string, users: string[], history: History): Promise<Room> {
    const room = this.#rooms.add(await this.#gateway.call("create-room", { room: name, users, history }));
    room.messages.startFresh();
    return room;
  }

  /** The direct room with this user, which is the same one each time. Rejects with the reason. */
  async openDirect(user: string): Promise<Room> {
    const reply = await this.#gateway.call("open-direct", { user });
    this.#showDeclined(reply.declined);
    return this.#rooms.add(reply);
  }

  /** Rejects with the reason. */
  async addPeople(room: Room, users: string[]): Promise<void> {
    const { added, declined } = await this.#gateway.call("add-user", { room: room.name, users });
    for (const username of added) room.members.add(username);
    this.#showDeclined(declined);
  }

  async leave(room: Room): Promise<void> {
    await this.#notice.attempt(async () => {
      await this.#gateway.call("leave-room", { room: room.name });
      this.#rooms.remove(room.name);
    });
  }

  /** Presence is not stored, and so not replayed: after a recovery it has to be asked for. */
  async refresh(): Promise<void> {
    await this.#notice.attempt(async () => this.#rooms.replace((await this.#gateway.call("list-rooms", {})).rooms));
  }

  #showDeclined(usernames: readonly string[] = []): void {
    if (usernames.length > 0) this.#notice.show(describeDeclined(usernames));
  }
}
