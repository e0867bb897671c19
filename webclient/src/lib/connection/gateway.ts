/** The network: the only file that knows Socket.IO. */

import { io, type Socket } from "socket.io-client";
import { basePath } from "../page/address";
import type { ActionName, EventName, Events, Failure, Outcome, Reply, Request } from "../wire";
import { ConnectionLost, isTemporary, Refused, ReplyTimeout } from "./errors";
import type { Identity } from "./session.svelte";

export interface Login {
  username: string;
  /** Resumes a session from before this page: its rooms come with `welcome`, the events it missed do not. */
  pid?: string | undefined;
  /** Try again after a temporary refusal even if no connection has succeeded yet. */
  keepTrying: boolean;
}

export interface Listener {
  /** Every event except those about the connection itself. Stored events carry their offset. */
  event<E extends EventName>(name: E, payload: Events[E], offset?: string): void;
  /** Connected. When `recovered`, every missed event follows. */
  connected(recovered: boolean, identity: Identity): void;
  /** The connection dropped or could not be made; the client keeps trying on its own. */
  lost(): void;
  /** The end: the login, or the attempt to come back, was refused. */
  refused(failure: Failure): void;
  /** The end: the session was resumed on another connection. */
  takenOver(): void;
}

/** Sends requests. */
export interface Caller {
  /** Rejects with `Refused`, `ReplyTimeout` or `ConnectionLost`. */
  call<A extends ActionName>(action: A, request: Request<A>): Promise<Reply<A>>;
}

/** Milliseconds: how long to wait for a reply, and between attempts after a temporary refusal. */
const REPLY_TIMEOUT = 10_000;
const RETRY_DELAY = 2_000;

/** The secret of the session. The stock client uses it to resume the session, and has no public name for it. */
const pidOf = (socket: Socket): string => (socket as unknown as { _pid?: string })._pid ?? "";

export class Gateway implements Caller {
  #listener: Listener;
  #socket: Socket | undefined;
  #keepsTrying = false;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(listener: Listener) {
    this.#listener = listener;
  }

  /** Connect and log in, replacing any connection there was. */
  open({ username, pid, keepTrying }: Login): void {
    this.close();
    const socket = io({
      // Once connected, the stock client adds its own pid and offset; a pid given here would override them.
      auth: (give) => give(pid === undefined || pidOf(socket) ? { username } : { username, pid }),
      path: `${basePath(document.baseURI)}socket.io`,
      forceNew: true,
      transports: ["websocket", "polling"],
      tryAllTransports: true,
      timeout: 8_000,
      reconnectionDelay: 300,
      reconnectionDelayMax: 4_000,
    });
    this.#socket = socket;
    this.#keepsTrying = keepTrying;
    socket.on("connect", () => this.#connected(socket));
    socket.on("disconnect", () => this.#disconnected(socket));
    socket.on("connect_error", (error) => this.#failed(socket, error));
    socket.onAny((name: EventName, payload: Events[EventName], offset?: string) =>
      this.#listener.event(name, payload, offset),
    );
  }

  /** Disconnect on purpose: the gateway ends the session and frees the name. */
  close(): void {
    clearTimeout(this.#retry);
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.off().offAny().disconnect();
  }

  async call<A extends ActionName>(action: A, request: Request<A>): Promise<Reply<A>> {
    const socket = this.#socket;
    if (!socket?.connected) throw new ConnectionLost();
    let outcome: Outcome<A>;
    try {
      outcome = (await socket.timeout(REPLY_TIMEOUT).emitWithAck(action, request)) as Outcome<A>;
    } catch {
      throw socket.connected ? new ReplyTimeout() : new ConnectionLost();
    }
    if (!outcome.ok) throw new Refused(outcome.error);
    return outcome;
  }

  #connected(socket: Socket): void {
    this.#keepsTrying = true;
    this.#listener.connected(socket.recovered, { sid: socket.id ?? "", pid: pidOf(socket) });
  }

  #disconnected(socket: Socket): void {
    if (socket.active) return this.#listener.lost();
    this.close();
    this.#listener.takenOver();
  }

  #failed(socket: Socket, error: Error & { data?: Failure }): void {
    if (socket.active) return this.#listener.lost();
    const failure: Failure = { ...error.data, code: error.data?.code ?? "unavailable", message: error.message };
    if (this.#keepsTrying && isTemporary(failure)) {
      this.#listener.lost();
      this.#retry = setTimeout(() => socket.connect(), RETRY_DELAY);
    } else {
      this.close();
      this.#listener.refused(failure);
    }
  }
}
