import { Refused } from "../connection/errors";
import type { Caller } from "../connection/gateway";
import type { Session } from "../connection/session.svelte";
import type { Notice } from "../page/notice.svelte";
import type { Room } from "../rooms/room.svelte";
import type { Rooms } from "../rooms/rooms.svelte";

/** Messages in a page. */
const PAGE = 50;

/** Fetches the stored messages of rooms, page by page. */
export class HistoryLoader {
  #gateway: Caller;
  #session: Session;
  #rooms: Rooms;
  #notice: Notice;

  constructor(gateway: Caller, session: Session, rooms: Rooms, notice: Notice) {
    this.#gateway = gateway;
    this.#session = session;
    this.#rooms = rooms;
    this.#notice = notice;
  }

  /** Fetch the latest page, if messages may have been missed. */
  async loadLatest(room: Room): Promise<void> {
    if (room.messages.stale) await this.#load(room);
  }

  /** Fetch the page before the oldest message we have, if there is one. */
  async loadOlder(room: Room): Promise<void> {
    const { more, oldest } = room.messages;
    if (more && oldest) await this.#load(room, oldest.offset ?? oldest.id);
  }

  /** Fetch what has been said in all rooms, starting with the open one. */
  async catchUp(): Promise<void> {
    const { open, list } = this.#rooms;
    if (open) await this.loadLatest(open);
    for (const room of list) await this.loadLatest(room);
  }

  async #load(room: Room, before?: string): Promise<void> {
    await this.#notice.attempt(async () => {
      const request = { room: room.name, limit: PAGE, ...(before === undefined ? {} : { before }) };
      const { messages, more } = await whenAllowed(() => this.#gateway.call("history", request));
      room.messages.addPage(messages, more, this.#session.username);
      this.#rooms.markSeen();
    });
  }
}

/** Run it, and again as often as the gateway asks us to wait. */
async function whenAllowed<T>(run: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await run();
    } catch (error) {
      const seconds = error instanceof Refused ? error.failure.retry_after : undefined;
      if (seconds === undefined) throw error;
      await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    }
  }
}
