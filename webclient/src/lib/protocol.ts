/** Everything that crosses the wire, as docs/protocol.md has it. */

export interface Member {
  username: string;
  online: boolean;
}

export interface RoomInfo {
  room: string;
  /** At most 100 of them, in order of name. */
  members: Member[];
  member_count: number;
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

/** What we may ask of the gateway, and what it replies. */
export interface Actions {
  "create-room": { request: { room: string; users?: string[] }; reply: RoomInfo };
  "add-user": { request: { room: string; users: string[] }; reply: { added: string[]; already: string[] } };
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
  | "not_a_member"
  | "unknown_user"
  | "limit_reached"
  | "rate_limited"
  | "too_large"
  | "unavailable";

export interface Failure {
  code: ErrorCode;
  message: string;
  fields?: Record<string, unknown>;
  /** Seconds. */
  retry_after?: number;
}

export type Answer<A extends ActionName> = ({ ok: true } & Reply<A>) | { ok: false; error: Failure };

/** A request to the gateway. Rejects with Refused, Unanswered or ConnectionLost (see gateway.ts). */
export type Call = <A extends ActionName>(action: A, request: Request<A>) => Promise<Reply<A>>;

/** In Unicode code points. */
export const MAX_CONTENT = 10_000;

export const isUsername = (text: string): boolean => /^[a-z0-9]{1,32}$/.test(text);
