import { ConnectionLost } from "../connection/errors";
import type { Caller } from "../connection/gateway";
import type { Session } from "../connection/session.svelte";
import { newId } from "../page/names";
import type { Room } from "../rooms/room.svelte";
import type { Entry } from "./entries";

/**
 * Sends our messages. Each shows at once as pending, then as sent when its ack comes, or as failed when the gateway
 * refuses it. If the connection is lost before the ack, the message stays pending and is sent again with the same id,
 * so that the gateway stores it once.
 */
export class Outbox {
  #gateway: Caller;
  #session: Session;
  /** The ids of messages whose ack has not come yet. */
  #inFlight = new Set<string>();

  constructor(gateway: Caller, session: Session) {
    this.#gateway = gateway;
    this.#session = session;
  }

  send(room: Room, content: string): void {
    const { username } = this.#session;
    const entry: Entry = { id: newId(), from: username, content, ts: Date.now(), status: "pending" };
    room.addPending(entry);
    void this.#transmit(room, entry);
  }

  /** Send a message that has failed once more. */
  retry(room: Room, entry: Entry): void {
    room.messages.setPending(entry);
    void this.#transmit(room, entry);
  }

  /** After a reconnect: send everything that is pending, in the order in which it was written. */
  flush(rooms: readonly Room[]): void {
    for (const room of rooms) {
      for (const entry of room.messages.unsent) {
        if (entry.status === "pending" && !this.#inFlight.has(entry.id)) void this.#transmit(room, entry);
      }
    }
  }

  async #transmit(room: Room, entry: Entry): Promise<void> {
    const { id, content } = entry;
    this.#inFlight.add(id);
    try {
      const { ts } = await this.#gateway.call("send-msg", { room: room.name, content, id });
      room.messages.confirm(entry, ts);
    } catch (error) {
      if (!(error instanceof ConnectionLost)) room.messages.setFailed(entry, (error as Error).message);
    } finally {
      this.#inFlight.delete(id);
    }
  }
}
