import { createContext } from "svelte";
import { isSent, type Entry } from "./entries";
import { ConnectionLost, Gateway, Refused, type Listener } from "./gateway";
import { Outbox } from "./outbox";
import { isTemporary, type EventName, type Events, type Failure, type History, type Reply } from "./protocol";
import type { Room } from "./room.svelte";
import { Rooms } from "./rooms.svelte";
import { describeDeclined, describeRefusal, SESSION_OVER, UNREACHABLE } from "./sentences";
import { Session, type Identity } from "./session.svelte";
import { Tab, type Kept } from "./tab";
import { SAY_EVERY } from "./typing.svelte";

const PAGE = 50;
/** The gateway's own bound of a page. */
const MAX_PAGE = 100;
const SUGGESTED = 8;

type Network = Pick<Gateway, "open" | "close" | "call">;
type Handlers = { [E in EventName]: (payload: Events[E], offset?: string) => void };

/** Joins the parts: what the gateway says goes into the state, what the components want goes to the gateway. */
export class Chat {
  readonly session = new Session();
  readonly rooms = new Rooms();
  #notice = $state("");
  #gateway: Network;
  #outbox: Outbox;
  #tab: Tab;
  #restored = $state.raw<Kept>();
  /** It was found in this browser, and nobody asked to be logged in. */
  #isFound = false;
  #saidTyping = -Infinity;

  #handlers: Handlers = {
    welcome: ({ rooms, recovered }) => {
      if (!recovered) this.#startOver(rooms);
      this.session.start();
      this.#outbox.flush(this.rooms.list);
    },
    message: (message, offset) => {
      const room = this.rooms.get(message.room);
      const seen = message.from === this.session.username || this.#isRead(room);
      room?.receive({ ...message, offset }, seen);
    },
    "room-joined": (info) => this.rooms.add(info).setAddedBy(info.by),
    "user-joined": ({ room, username }) => this.rooms.get(room)?.addMember(username),
    "user-left": ({ room, username }) => {
      if (username === this.session.username) this.rooms.remove(room);
      else this.rooms.get(room)?.removeMember(username);
    },
    presence: ({ room, username, online }) => this.rooms.get(room)?.setPresence(username, online),
    typing: ({ room, username }) => this.rooms.get(room)?.typing.hear(username),
  };

  constructor(connect: (listener: Listener) => Network = (listener) => new Gateway(listener), tab = new Tab()) {
    this.#gateway = connect({
      event: (name, payload, offset) =>
        (this.#handlers[name] as ((payload: unknown, offset?: string) => void) | undefined)?.(payload, offset),
      connected: (recovered, identity) => this.#connected(recovered, identity),
      lost: () => this.#lost(),
      refused: (failure) => this.#refused(failure),
      takenOver: () => this.session.lendOut(),
    });
    this.#outbox = new Outbox(this.#gateway.call);
    this.#tab = tab;
  }

  // --- the session

  /** Something that went wrong outside a form. */
  get notice(): string {
    return this.#notice;
  }

  dismissNotice(): void {
    this.#notice = "";
  }

  /** Go on where this tab was before it was reloaded, else where one was that is gone. */
  async resume(): Promise<void> {
    const kept = this.#tab.read();
    if (kept) return this.#goOn(kept);
    this.session.begin();
    const left = await this.#tab.adopt();
    if (!left) return this.session.end();
    this.#isFound = true;
    this.#goOn(left);
  }

  /** Take the session back from wherever it went on. */
  takeBack(): void {
    this.session.takeBack();
    this.#gateway.open(this.session.username, this.session.identity?.pid);
  }

  /** A name that a session of this browser still has is not lost to us: we go on with that session. */
  async join(username: string): Promise<void> {
    this.session.join(username);
    const left = await this.#tab.adopt(username);
    this.#restored = left;
    this.#gateway.open(username, left?.pid, false);
  }

  logOut(): void {
    this.#gateway.close();
    if (this.session.phase === "elsewhere") this.#tab.letGo();
    else this.#tab.forget();
    this.#leaveAll();
  }

  /** Write down what a reload must not lose: called by an effect, whenever that changes, and as the page goes. */
  keep(): void {
    const { phase, username, identity } = this.session;
    if (phase === "elsewhere") return this.#tab.stepAside();
    if (!identity) return;
    // Until the rooms are here, and after they went elsewhere with a reload, what was restored is what there is.
    const kept = this.#restored ?? {
      open: this.rooms.open?.name ?? null,
      rooms: this.rooms.list.map((room) => room.kept),
    };
    this.#tab.write({ ...kept, username, ...identity, elsewhere: false });
  }

  #goOn(kept: Kept): void {
    const { username, sid, pid, elsewhere } = kept;
    this.#restored = kept;
    this.session.remember(username, { sid, pid }, elsewhere);
    if (!elsewhere) this.#gateway.open(username, pid);
  }

  // --- rooms

  openRoom(name: string | null): void {
    this.rooms.select(name);
    if (this.rooms.open?.stale) void this.#load(this.rooms.open);
  }

  /** The reader of the open room has come to its end, or back to the page. */
  look(): void {
    const room = this.rooms.open;
    if (this.#isRead(room)) room?.markSeen();
  }

  async loadOlder(room: Room): Promise<void> {
    const oldest = room.entries.find(isSent);
    if (room.more && oldest) await this.#load(room, oldest.offset ?? oldest.id);
  }

  /** Rejects with the reason. */
  async createRoom(name: string, users: string[], history: History): Promise<Room> {
    const reply = await this.#gateway.call("create-room", { room: name, users, history });
    const room = this.rooms.add(reply);
    room.startFresh();
    return room;
  }

  /** The gateway's room for exactly the two of us, which is the same one each time. Rejects with the reason. */
  async openDirect(username: string): Promise<Room> {
    const reply = await this.#gateway.call("open-direct", { user: username });
    this.#tellDeclined(reply.declined);
    return this.rooms.add(reply);
  }

  /** Rejects with the reason. */
  async addPeople(room: Room, users: string[]): Promise<void> {
    const { added, declined } = await this.#gateway.call("add-user", { room: room.name, users });
    for (const username of added) room.addMember(username);
    this.#tellDeclined(declined);
  }

  async leaveRoom(room: Room): Promise<void> {
    await this.#tell(async () => {
      await this.#gateway.call("leave-room", { room: room.name });
      this.rooms.remove(room.name);
    });
  }

  /**
   * A few others who are online and whose names start with `prefix`, besides `known`; nobody when they cannot be had.
   * To less than two letters the gateway names people who share a room with us.
   */
  async findUsers(prefix: string, known: readonly string[] = []): Promise<string[]> {
    const without = new Set([...known, this.session.username]);
    try {
      const limit = Math.min(SUGGESTED + without.size, MAX_PAGE);
      const { users } = await this.#gateway.call("find-users", { prefix, limit });
      return users.filter((name) => !without.has(name)).slice(0, SUGGESTED);
    } catch {
      return [];
    }
  }

  /** Know all members of a room of which the gateway tells every change but has named only a few. */
  async learnMembers(room: Room): Promise<void> {
    if (!room.isPartial || room.memberCount > MAX_PAGE) return;
    try {
      const { members, more } = await this.#gateway.call("list-members", { room: room.name });
      if (!more) room.setMembers(members);
    } catch {
      // Then it is not said who is online.
    }
  }

  /** The members after a name; nobody, and a notice, when they cannot be had. */
  async listMembers(room: Room, after: string): Promise<Reply<"list-members"> | undefined> {
    return this.#tell(() => this.#gateway.call("list-members", { room: room.name, after }));
  }

  // --- messages

  send(room: Room, content: string): void {
    this.#saidTyping = -Infinity;
    this.#outbox.send(room, this.session.username, content);
  }

  retry(room: Room, entry: Entry): void {
    this.#outbox.retry(room, entry);
  }

  /** We type: the others hear of it, now and then. */
  sayTyping(room: Room): void {
    const now = Date.now();
    if (this.session.phase !== "online" || room.memberCount < 2 || now - this.#saidTyping < SAY_EVERY) return;
    this.#saidTyping = now;
    this.#gateway.call("typing", { room: room.name }).catch(() => {}); // nobody misses it
  }

  #isRead(room: Room | undefined): boolean {
    return room !== undefined && room === this.rooms.open && room.atEnd && !document.hidden;
  }

  async #load(room: Room, before?: string): Promise<void> {
    await this.#tell(async () => {
      const request = { room: room.name, limit: PAGE, ...(before === undefined ? {} : { before }) };
      const { messages, more } = await patiently(() => this.#gateway.call("history", request));
      room.addPage(messages, more, this.session.username);
      this.look();
    });
  }

  // --- what the gateway says

  /** Presence is not stored: after a recovery it is asked for. Without recovery, `welcome` says everything. */
  #connected(recovered: boolean, identity: Identity): void {
    const before = this.#restored ?? this.session.identity;
    // A session that was in no room ends with its connection; the new one is as good, and nobody need hear of it.
    const wasInRooms = (this.#restored?.rooms ?? this.rooms.list).length > 0;
    const isOver = before !== undefined && before.sid !== identity.sid && wasInRooms;
    if (isOver && this.#isFound) return this.#endFound();
    this.#isFound = false;
    if (isOver) this.#loseRooms();
    this.session.enter(identity);
    this.#tab.enter(identity.sid);
    this.#outbox.flush(this.rooms.list); // before anything that is written from now on
    if (!recovered) return;
    this.session.start();
    void this.#tell(async () => this.rooms.replace((await this.#gateway.call("list-rooms", {})).rooms));
    void this.#catchUp();
  }

  /** We are in these rooms, and do not know what was said there. */
  #startOver(infos: Events["welcome"]["rooms"]): void {
    this.rooms.replace(infos);
    for (const room of this.rooms.list) room.forget();
    this.#restoreRooms();
    void this.#catchUp();
  }

  /** Fetch what was said, in the open room first. */
  async #catchUp(): Promise<void> {
    const open = this.rooms.open;
    for (const room of [...(open ? [open] : []), ...this.rooms.list]) if (room.stale) await this.#load(room);
  }

  #restoreRooms(): void {
    const restored = this.#restored;
    this.#restored = undefined;
    for (const kept of restored?.rooms ?? []) this.rooms.get(kept.name)?.restore(kept);
    if (restored && !this.rooms.open) this.rooms.select(restored.open);
  }

  /** The session we had is over, and this is a new one. */
  #loseRooms(): void {
    const reason = "Your session ended while you were away, and you left your rooms.";
    this.#notice = `${this.session.phase === "joining" ? "" : reason}${this.#tellUnsent()}`.trim();
    this.#restored = undefined;
    this.rooms.clear();
  }

  /** The session we found is over. This is a new one, which nobody asked for. */
  #endFound(): void {
    this.#gateway.close();
    this.#tab.forget();
    this.#leaveAll(SESSION_OVER + this.#tellUnsent());
  }

  /** " 2 messages were not sent.", where there are any, and they will not be. */
  #tellUnsent(): string {
    const unsent = this.#restored ? this.#restored.rooms.flatMap((room) => room.unsent).length : this.rooms.unsent;
    if (unsent === 0) return "";
    return unsent === 1 ? " A message was not sent." : ` ${unsent} messages were not sent.`;
  }

  #tellDeclined(usernames?: string[]): void {
    this.#notice = describeDeclined(usernames) || this.#notice;
  }

  #lost(): void {
    if (this.session.phase === "joining") {
      this.#gateway.close();
      this.#tab.letGo();
      this.#leaveAll(UNREACHABLE);
    }
    this.session.lose();
  }

  #refused(failure: Failure): void {
    if (isTemporary(failure)) this.#tab.letGo();
    else this.#tab.forget();
    this.#leaveAll(describeRefusal(this.session.username, failure) + this.#tellUnsent());
  }

  #leaveAll(problem?: string): void {
    this.session.end(problem);
    this.rooms.clear();
    this.#restored = undefined;
    this.#isFound = false;
    this.#notice = "";
  }

  /** Run it, and show why it failed; a lost connection is shown already. */
  async #tell<T>(run: () => Promise<T>): Promise<T | undefined> {
    try {
      return await run();
    } catch (error) {
      if (!(error instanceof ConnectionLost)) this.#notice = (error as Error).message;
      return undefined;
    }
  }
}

/** Run it, and again as often as the gateway asks to wait. */
async function patiently<T>(run: () => Promise<T>): Promise<T> {
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

export const [getChat, setChat] = createContext<Chat>();
