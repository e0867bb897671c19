import type { Entry } from "./entries";
import { ConnectionLost } from "./gateway";
import { newId } from "./names";
import type { Call } from "./protocol";
import type { Room } from "./room.svelte";

/**
 * Brings our messages to the gateway. Each is shown at once as pending, and is sent when its ack came, or failed when
 * the gateway refused it. One whose ack was lost with the connection stays pending and goes out again, with its id, so
 * that it is stored once.
 */
export class Outbox {
  #call: Call;
  #underWay = new Set<string>();

  constructor(call: Call) {
    this.#call = call;
  }

  send(room: Room, from: string, content: string): void {
    const entry: Entry = { id: newId(), from, content, ts: Date.now(), status: "pending" };
    room.addPending(entry);
    void this.#transmit(room, entry);
  }

  retry(room: Room, entry: Entry): void {
    room.setPending(entry);
    void this.#transmit(room, entry);
  }

  /** After a reconnect: everything that waits, in the order it was written. */
  flush(rooms: readonly Room[]): void {
    for (const room of rooms) {
      for (const entry of room.unsent) {
        if (entry.status === "pending" && !this.#underWay.has(entry.id)) void this.#transmit(room, entry);
      }
    }
  }

  async #transmit(room: Room, entry: Entry): Promise<void> {
    const { id, content } = entry;
    this.#underWay.add(id);
    try {
      const { ts } = await this.#call("send-msg", { room: room.name, content, id });
      room.confirm(entry, ts);
    } catch (error) {
      if (!(error instanceof ConnectionLost)) room.setFailed(entry, (error as Error).message);
    } finally {
      this.#underWay.delete(id);
    }
  }
}
