import { createContext } from "svelte";
import { Connection } from "./connection/connection";
import { Gateway, type Caller, type Listener } from "./connection/gateway";
import { Session } from "./connection/session.svelte";
import { HistoryLoader } from "./messages/history";
import { Outbox } from "./messages/outbox";
import { Notice } from "./page/notice.svelte";
import type { EventName, Events } from "./wire";
import { Directory } from "./rooms/directory";
import { Membership } from "./rooms/membership";
import type { Room } from "./rooms/room.svelte";
import { Rooms } from "./rooms/rooms.svelte";
import { TypingSignal } from "./rooms/typing-signal";
import { Persistence } from "./storage/persistence.svelte";
import { Tab } from "./storage/tab";

type Network = Caller & Pick<Gateway, "open" | "close">;
type Handlers = { [E in EventName]: (payload: Events[E], offset?: string) => void };

/** Wires the parts together: events of the gateway go into the state; components read the state and call the parts. */
export class Chat {
  readonly session = new Session();
  readonly rooms = new Rooms();
  readonly notice = new Notice();
  readonly connection: Connection;
  readonly directory: Directory;
  readonly history: HistoryLoader;
  readonly membership: Membership;
  readonly outbox: Outbox;
  readonly persistence: Persistence;
  readonly typing: TypingSignal;

  #handlers: Handlers = {
    welcome: ({ rooms, recovered }) => {
      if (!recovered) this.#startOver(rooms);
      this.session.enter();
      this.outbox.flush(this.rooms.list);
    },
    message: (message, offset) => {
      const room = this.rooms.get(message.room);
      const seen = message.from === this.session.username || this.rooms.isRead(room);
      room?.receive({ ...message, offset }, seen);
    },
    "room-joined": (info) => this.rooms.add(info).setAddedBy(info.by),
    "user-joined": ({ room, username }) => this.rooms.get(room)?.members.add(username),
    "user-left": ({ room, username }) => {
      if (username === this.session.username) this.rooms.remove(room);
      else this.rooms.get(room)?.removeMember(username);
    },
    presence: ({ room, username, online }) => this.rooms.get(room)?.setPresence(username, online),
    typing: ({ room, username }) => this.rooms.get(room)?.typing.start(username),
  };

  #listener: Listener = {
    event: (name, payload, offset) =>
      (this.#handlers[name] as ((payload: unknown, offset?: string) => void) | undefined)?.(payload, offset),
    connected: (recovered, identity) => {
      if (!this.connection.connected(identity)) return;
      this.outbox.flush(this.rooms.list); // before anything that is written from now on
      if (recovered) this.#goOn();
    },
    lost: () => this.connection.lost(),
    refused: (failure) => this.connection.refused(failure),
    takenOver: () => this.connection.takenOver(),
  };

  constructor(connect: (listener: Listener) => Network = (listener) => new Gateway(listener), tab = new Tab()) {
    const gateway = connect(this.#listener);
    const { session, rooms, notice } = this;
    const persistence = new Persistence(tab, session, rooms);
    this.persistence = persistence;
    this.connection = new Connection({ gateway, session, rooms, persistence, notice });
    this.directory = new Directory(gateway, session, notice);
    this.history = new HistoryLoader(gateway, session, rooms, notice);
    this.membership = new Membership(gateway, rooms, notice);
    this.outbox = new Outbox(gateway, session);
    this.typing = new TypingSignal(gateway, session);
  }

  /** Open a room, or none. */
  openRoom(name: string | null): void {
    this.rooms.select(name);
    if (this.rooms.open) void this.history.loadLatest(this.rooms.open);
  }

  send(room: Room, content: string): void {
    this.typing.reset();
    this.outbox.send(room, content);
  }

  /** Recovered: every event that was missed follows. */
  #goOn(): void {
    this.session.enter();
    void this.membership.refresh();
    void this.history.catchUp();
  }

  /** We are in these rooms, and do not know what has been said there. */
  #startOver(infos: Events["welcome"]["rooms"]): void {
    this.rooms.replace(infos);
    for (const room of this.rooms.list) room.messages.forget();
    this.persistence.restore();
    void this.history.catchUp();
  }
}

export const [getChat, setChat] = createContext<Chat>();
