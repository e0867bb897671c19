/** Everything that crosses the wire, as docs/protocol.md has it. */

export interface Member {
  username: string;
  online: boolean;
}

/** A direct room is the gateway's own, of exactly two people: nobody can be added, and no client can make one like it. */
export type Kind = "group" | "direct";

/** What a new member can read: everything, or what was said after joining. */
export type History = "all" | "joined";

export interface RoomInfo {
  room: string;
  kind: Kind;
  history: History;
  /** The first of them, in order of name; "list-members" gives all. */
  members: Member[];
  member_count: number;
  /** Of a direct room: the other of the two. */
  user?: string;
}

export interface Message {
  /** Chosen by the sender; sending it again stores nothing. */
  id: string;
  room: string;
  from: string;
  content: string;
  /** Unix time in milliseconds. */
  ts: number;
}

export interface StoredMessage extends Message {
  /** Opaque: a position in the order of all events. */
  offset: string;
}

/** What the gateway tells us, unasked. */
export interface Events {
  welcome: { username: string; rooms: RoomInfo[]; recovered: boolean };
  message: Message;
  "room-joined": RoomInfo & { by: string };
  "user-joined": { room: string; username: string; by: string };
  "user-left": { room: string; username: string };
  presence: { room: string; username: string; online: boolean };
  typing: { room: string; username: string };
}

interface Declined {
  /** Who left the room not long ago, and was not added again. */
  declined?: string[];
}

/** What we may ask of the gateway, and what it replies. */
export interface Actions {
  "create-room": { request: { room: string; users?: string[]; history?: History }; reply: RoomInfo };
  "open-direct": { request: { user: string }; reply: RoomInfo & Declined };
  "add-user": {
    request: { room: string; users: string[] };
    reply: { added: string[]; already: string[] } & Declined;
  };
  "send-msg": {
    request: { room: string; content: string; id?: string };
    reply: { id: string; ts: number; duplicate?: boolean };
  };
  "leave-room": { request: { room: string }; reply: object };
  "list-rooms": { request: Record<string, never>; reply: { rooms: RoomInfo[] } };
  "list-members": {
    request: { room: string; after?: string; limit?: number };
    reply: { members: Member[]; member_count: number; more: boolean };
  };
  history: {
    request: { room: string; before?: string; limit?: number };
    reply: { messages: StoredMessage[]; more: boolean };
  };
  "find-users": { request: { prefix?: string; limit?: number }; reply: { users: string[]; more: boolean } };
  typing: { request: { room: string }; reply: object };
}

export type EventName = keyof Events;
export type ActionName = keyof Actions;
export type Request<A extends ActionName> = Actions[A]["request"];
export type Reply<A extends ActionName> = Actions[A]["reply"];

export type ErrorCode =
  | "invalid_payload"
  | "unknown_action"
  | "invalid_username"
  | "username_taken"
  | "unauthorized"
  | "room_exists"
  | "room_not_found"
  | "forbidden"
  | "unknown_user"
  | "limit_reached"
  | "rate_limited"
  | "too_large"
  | "unavailable"
  | "internal_error";

export interface Failure {
  code: ErrorCode;
  message: string;
  fields?: Record<string, unknown>;
  /** Seconds. */
  retry_after?: number;
}

/** Refusals that pass by themselves. */
export const isTemporary = ({ code }: Failure): boolean =>
  code === "unavailable" || code === "limit_reached" || code === "rate_limited";

export type Answer<A extends ActionName> = ({ ok: true } & Reply<A>) | { ok: false; error: Failure };

/** A request to the gateway. Rejects with Refused, Unanswered or ConnectionLost (see gateway.ts). */
export type Call = <A extends ActionName>(action: A, request: Request<A>) => Promise<Reply<A>>;

/** In Unicode code points. */
export const MAX_CONTENT = 10_000;

/** Spaces, controls, formatting, fillers and marks without a letter: a message of these alone is refused, for it would show as nothing. */
const VISIBLE = /[^\p{Z}\p{Cc}\p{Cf}\p{Cs}\p{Mn}\p{Me}\p{Default_Ignorable_Code_Point}\u2800]/u;

export const isVisible = (text: string): boolean => VISIBLE.test(text);

export const isUsername = (text: string): boolean => /^[a-z0-9]{1,32}$/.test(text);
