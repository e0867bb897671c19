/** A chat of "alice" on a gateway that does what the test says. */

import { vi } from "vitest";
import { Chat } from "../chat.svelte";
import type { Listener } from "../connection/gateway";
import type { SavedSession } from "../storage/saved";
import type { Tab } from "../storage/tab";
import type { Events, Message, RoomInfo } from "../wire";
import { roomInfo } from "./rooms";

/** Resolves when everything that can go on without a timer has done so. */
export const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve));

export const info = (room: string, ...names: string[]): RoomInfo => roomInfo(room, names);

export const message = (id: string, room = "tea", from = "bob"): Message => ({ id, room, from, content: id, ts: 1 });

export const welcomeTo = (rooms: RoomInfo[], recovered = false): Events["welcome"] => ({
  username: "alice",
  rooms,
  recovered,
  sid: "s",
  pid: "p2",
  recovery_window: 120,
});

/** A saved session of alice, who is in "tea" with half a message written. */
export const savedSession: SavedSession = {
  username: "alice",
  sid: "s",
  pid: "p1",
  elsewhere: false,
  open: "tea",
  rooms: [{ name: "tea", draft: "half a", unsent: [], unread: 0, newFrom: null, latest: "bob 1", activity: 5 }],
};

export const unsentEntry = { id: "u", from: "alice", content: "hi", ts: 5, status: "pending" as const };

/** As `savedSession`, with a message that was not sent. */
export const savedUnsent: SavedSession = {
  ...savedSession,
  rooms: [{ ...savedSession.rooms[0]!, unsent: [unsentEntry] }],
};

/** `saved` is what this tab saved before a reload, `left` a session that another tab has left. */
function fakeTab(saved?: SavedSession, left?: SavedSession) {
  return {
    read: vi.fn(() => saved),
    adopt: vi.fn(async (name?: string) => (name === undefined || name === left?.username ? left : undefined)),
    enter: vi.fn(),
    write: vi.fn<Tab["write"]>(),
    yield: vi.fn(),
    leave: vi.fn(),
    forget: vi.fn(),
  };
}

/** A chat that has not logged in yet. */
export function makeChat(saved?: SavedSession, left?: SavedSession) {
  let listener!: Listener;
  const [call, open, close] = [vi.fn(), vi.fn(), vi.fn()];
  const tab = fakeTab(saved, left);
  const connect = (given: Listener) => {
    listener = given;
    return { call, open, close };
  };
  const chat = new Chat(connect, tab as unknown as Tab);
  call.mockImplementation(async (action: string) =>
    action === "history" ? { messages: [], more: false } : { ts: 42, rooms: [] },
  );
  /** The gateway lets us in. */
  const welcome = (rooms: RoomInfo[], recovered = false, sid = "s"): void => {
    listener.connected(recovered, { sid, pid: "p2" });
    listener.event("welcome", welcomeTo(rooms, recovered));
  };
  /** The requests of this action. */
  const requests = (action: string): unknown[] =>
    call.mock.calls.filter(([name]) => name === action).map(([, request]) => request);
  return { chat, call, open, close, listener, tab, welcome, requests };
}

/** A chat that is joining as alice. */
export async function joiningChat() {
  const made = makeChat();
  await made.chat.connection.join("alice");
  return made;
}

/** A chat that is in these rooms, and has fetched their history. */
export async function openChat(...rooms: RoomInfo[]) {
  const made = await joiningChat();
  made.welcome(rooms);
  await settled();
  return made;
}

/** The messages of a room, as id and status. */
export const shown = (chat: Chat, room = "tea"): string[][] =>
  chat.rooms.get(room)!.messages.entries.map((entry) => [entry.id, entry.status]);
