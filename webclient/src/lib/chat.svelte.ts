import { createContext } from "svelte";
import { ConnectionLost, Gateway, type Listener } from "./gateway";
import { Outbox } from "./outbox";
import type { EventName, Events, Failure } from "./protocol";
import type { Entry } from "./entries";
import type { Room } from "./room.svelte";
import { Rooms } from "./rooms.svelte";
import { CLOSED_ELSEWHERE, describeRefusal, Session, UNREACHABLE } from "./session.svelte";

const PAGE = 50;

type Network = Pick<Gateway, "open" | "close" | "call">;
type Handlers = { [E in EventName]: (payload: Events[E]) => void };

/** Joins the parts: what the gateway says goes into the state, what the components want goes to the gateway. */
export class Chat {
  readonly session = new Session();
  readonly rooms = new Rooms();
  #notice = $state("");
  #gateway: Network;
  #outbox: Outbox;

  #handlers: Handlers = {
    welcome: ({ rooms, recovered }) => {
      if (!recovered) this.#startOver(rooms);
      this.session.resume();
      this.#outbox.flush(this.rooms.list);
    },
    message: (message) => {
      const room = this.rooms.get(message.room);
      const seen = message.from === this.session.username || (room === this.rooms.open && !document.hidden);
      room?.receive(message, seen);
    },
    "room-joined": (info) => void this.rooms.add(info),
    "user-joined": ({ room, username }) => this.rooms.get(room)?.addMember(username),
    "user-left": ({ room, username }) => {
      if (username === this.session.username) this.rooms.remove(room);
      else this.rooms.get(room)?.removeMember(username);
    },
    presence: ({ room, username, online }) => this.rooms.get(room)?.setPresence(username, online),
    typing: () => {},
  };

  constructor(connect: (listener: Listener) => Network = (listener) => new Gateway(listener)) {
    this.#gateway = connect({
      event: (name, payload) => (this.#handlers[name] as ((payload: unknown) => void) | undefined)?.(payload),
      connected: (recovered) => this.#connected(recovered),
      lost: () => this.#lost(),
      ended: (failure) => this.#ended(failure),
    });
    this.#outbox = new Outbox(this.#gateway.call);
  }

  /** Something that went wrong outside a form. */
  get notice(): string {
    return this.#notice;
  }

  dismissNotice(): void {
    this.#notice = "";
  }

  join(username: string): void {
    this.session.join(username);
    this.#gateway.open(username);
  }

  logOut(): void {
    this.#gateway.close();
    this.#leaveAll();
  }

  async openRoom(name: string): Promise<void> {
    this.rooms.select(name);
    const room = this.rooms.open;
    if (room?.stale) await this.#load(room);
  }

  loadOlder(room: Room): Promise<void> {
    return this.#load(room, room.entries.find((entry) => entry.status === "sent")?.id);
  }

  /** Rejects with the reason. */
  async createRoom(name: string, users: string[]): Promise<Room> {
    const room = this.rooms.add(await this.#gateway.call("create-room", { room: name, users }));
    room.startFresh();
    return room;
  }

  /** Rejects with the reason. */
  async addPeople(room: Room, users: string[]): Promise<void> {
    const { added } = await this.#gateway.call("add-user", { room: room.name, users });
    for (const username of added) room.addMember(username);
  }

  async leaveRoom(room: Room): Promise<void> {
    await this.#tell(async () => {
      await this.#gateway.call("leave-room", { room: room.name });
      this.rooms.remove(room.name);
    });
  }

  /** Others who are online and whose names start with `prefix`; nobody when they cannot be had. */
  async findUsers(prefix: string): Promise<string[]> {
    try {
      const { users } = await this.#gateway.call("find-users", { prefix, limit: 9 });
      return users.filter((name) => name !== this.session.username);
    } catch {
      return [];
    }
  }

  send(room: Room, content: string): void {
    this.#outbox.send(room, this.session.username, content);
  }

  retry(room: Room, entry: Entry): void {
    this.#outbox.retry(room, entry);
  }

  async #load(room: Room, before?: string): Promise<void> {
    await this.#tell(async () => {
      const request = { room: room.name, limit: PAGE, ...(before === undefined ? {} : { before }) };
      const { messages, more } = await this.#gateway.call("history", request);
      room.addPage(messages, more);
    });
  }

  /** Presence is not stored: after a recovery it is asked for. Without recovery, `welcome` says everything. */
  #connected(recovered: boolean): void {
    if (!recovered) return;
    this.session.resume();
    this.#outbox.flush(this.rooms.list);
    void this.#tell(async () => this.rooms.replace((await this.#gateway.call("list-rooms", {})).rooms));
  }

  #startOver(infos: Events["welcome"]["rooms"]): void {
    const lost = this.rooms.list.length > 0 && infos.length === 0;
    if (lost) this.#notice = "You were away for too long: the gateway ended your session, and you left your rooms.";
    this.rooms.replace(infos);
    for (const room of this.rooms.list) room.forget();
    if (this.rooms.open) void this.#load(this.rooms.open);
  }

  #lost(): void {
    if (this.session.phase === "joining") {
      this.#gateway.close();
      this.session.end(UNREACHABLE);
    }
    this.session.lose();
  }

  #ended(failure?: Failure): void {
    this.#leaveAll(failure ? describeRefusal(this.session.username, failure) : CLOSED_ELSEWHERE);
  }

  #leaveAll(problem?: string): void {
    this.session.end(problem);
    this.rooms.clear();
    this.#notice = "";
  }

  /** Run it, and show why it failed; a lost connection is shown already. */
  async #tell(run: () => Promise<void>): Promise<void> {
    try {
      await run();
    } catch (error) {
      if (!(error instanceof ConnectionLost)) this.#notice = (error as Error).message;
    }
  }
}

export const [getChat, setChat] = createContext<Chat>();
