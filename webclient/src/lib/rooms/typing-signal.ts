import type { Caller } from "../connection/gateway";
import type { Session } from "../connection/session.svelte";
import type { Room } from "./room.svelte";

/** Milliseconds between two signals: the others show us as typing for a little longer than that. */
const INTERVAL = 3_000;

/** Tells the other members that we are typing, every now and then. */
export class TypingSignal {
  #gateway: Caller;
  #session: Session;
  #sentAt = -Infinity;

  constructor(gateway: Caller, session: Session) {
    this.#gateway = gateway;
    this.#session = session;
  }

  /** Call this for every change of the text. */
  send(room: Room): void {
    const now = Date.now();
    const isDue = now - this.#sentAt >= INTERVAL;
    if (this.#session.phase !== "online" || room.members.count < 2 || !isDue) return;
    this.#sentAt = now;
    this.#gateway.call("typing", { room: room.name }).catch(() => {}); // a lost signal does not matter
  }

  /** The message was sent: whatever is typed next is signalled at once. */
  reset(): void {
    this.#sentAt = -Infinity;
  }
}
