/** The network: the one file that knows Socket.IO. */

import { io, type Socket } from "socket.io-client";
import type { ActionName, Answer, Call, EventName, Events, Failure, Request } from "./protocol";

/** The gateway said no; the message is its own sentence. */
export class Refused extends Error {
  readonly failure: Failure;

  constructor(failure: Failure) {
    super(failure.message);
    this.failure = failure;
  }
}

/** The connection stands, but no reply came in time. */
export class Unanswered extends Error {
  constructor() {
    super("The gateway did not answer.");
  }
}

/** There is no connection, or it broke before the reply: what was asked may or may not have been done. */
export class ConnectionLost extends Error {
  constructor() {
    super("There is no connection to the gateway.");
  }
}

export interface Listener {
  /** Every event but those of the connection itself. */
  event<E extends EventName>(name: E, payload: Events[E]): void;
  /** Connected; `recovered` when every missed event follows. */
  connected(recovered: boolean): void;
  /** The transport is gone or never came; the client keeps trying by itself. */
  lost(): void;
  /** The end: a login refused, or the session closed by the gateway (no failure then). */
  ended(failure?: Failure): void;
}

const ANSWER_WITHIN = 10_000;
const RETRY_AFTER = 2_000;

/** Refusals that pass: once we have a session, we try again. */
const isTemporary = ({ code }: Failure): boolean =>
  code === "unavailable" || code === "limit_reached" || code === "rate_limited";

export class Gateway {
  #listener: Listener;
  #socket: Socket | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(listener: Listener) {
    this.#listener = listener;
  }

  open(username: string): void {
    this.close();
    const socket = io({
      auth: { username },
      forceNew: true,
      transports: ["websocket", "polling"],
      tryAllTransports: true,
      reconnectionDelay: 300,
      reconnectionDelayMax: 5_000,
    });
    this.#socket = socket;
    let welcomed = false;
    socket.on("connect", () => {
      welcomed = true;
      this.#listener.connected(socket.recovered);
    });
    socket.on("disconnect", () => {
      if (socket.active) this.#listener.lost();
      else this.#end();
    });
    socket.on("connect_error", (error: Error & { data?: Failure }) => {
      if (socket.active) return this.#listener.lost();
      const failure: Failure = { ...error.data, code: error.data?.code ?? "unavailable", message: error.message };
      if (!welcomed || !isTemporary(failure)) return this.#end(failure);
      this.#listener.lost();
      this.#retry = setTimeout(() => socket.connect(), RETRY_AFTER);
    });
    socket.onAny((name: EventName, payload: Events[EventName]) => this.#listener.event(name, payload));
  }

  /** Leave on purpose: the gateway ends the session, and the name is free. */
  close(): void {
    clearTimeout(this.#retry);
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.off().offAny().disconnect();
  }

  call: Call = async <A extends ActionName>(action: A, request: Request<A>) => {
    const socket = this.#socket;
    if (!socket?.connected) throw new ConnectionLost();
    let answer: Answer<A>;
    try {
      answer = (await socket.timeout(ANSWER_WITHIN).emitWithAck(action, request)) as Answer<A>;
    } catch {
      throw socket.connected ? new Unanswered() : new ConnectionLost();
    }
    if (!answer.ok) throw new Refused(answer.error);
    return answer;
  };

  #end(failure?: Failure): void {
    this.close();
    this.#listener.ended(failure);
  }
}
