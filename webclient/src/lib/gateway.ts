/** The network: the one file that knows Socket.IO. */

import { io, type Socket } from "socket.io-client";
import { basePath } from "./address";
import {
  isTemporary,
  type ActionName,
  type Answer,
  type Call,
  type EventName,
  type Events,
  type Failure,
  type Request,
} from "./protocol";
import type { Identity } from "./session.svelte";

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
  /** Every event but those of the connection itself; stored ones carry their offset. */
  event<E extends EventName>(name: E, payload: Events[E], offset?: string): void;
  /** Connected; `recovered` when every missed event follows. */
  connected(recovered: boolean, identity: Identity): void;
  /** The transport is gone or never came; the client keeps trying by itself. */
  lost(): void;
  /** The end: the login, or the return, was refused. */
  refused(failure: Failure): void;
  /** The end: the session goes on at another connection. */
  takenOver(): void;
}

const ANSWER_WITHIN = 10_000;
const RETRY_AFTER = 2_000;

/** The session's secret, by which the stock client resumes it, and which it shows to nobody. */
const pidOf = (socket: Socket): string => (socket as unknown as { _pid?: string })._pid ?? "";

export class Gateway {
  #listener: Listener;
  #socket: Socket | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(listener: Listener) {
    this.#listener = listener;
  }

  /**
   * Log in. `pid` is that of a session from before this page: its rooms come with `welcome`, what was missed does not.
   * Who has a session to come back to is patient with refusals that pass.
   */
  open(username: string, pid?: string, patient = pid !== undefined): void {
    this.close();
    const socket = io({
      // Once connected, the stock client adds the pid and the offset of its own; what is given here would hide them.
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
    let hadSession = patient;
    socket.on("connect", () => {
      hadSession = true;
      this.#listener.connected(socket.recovered, { sid: socket.id ?? "", pid: pidOf(socket) });
    });
    socket.on("disconnect", () => {
      if (socket.active) return this.#listener.lost();
      this.close();
      this.#listener.takenOver();
    });
    socket.on("connect_error", (error: Error & { data?: Failure }) => {
      if (socket.active) return this.#listener.lost();
      const failure: Failure = { ...error.data, code: error.data?.code ?? "unavailable", message: error.message };
      if (hadSession && isTemporary(failure)) {
        this.#listener.lost();
        this.#retry = setTimeout(() => socket.connect(), RETRY_AFTER);
      } else {
        this.close();
        this.#listener.refused(failure);
      }
    });
    socket.onAny((name: EventName, payload: Events[EventName], offset?: string) =>
      this.#listener.event(name, payload, offset),
    );
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
}
