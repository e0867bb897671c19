/** What crosses the wire: generated from gateway/protocol/ by `python -m tools.generate`. Do not edit. */

export type Kind = "group" | "direct";

export type History = "all" | "joined";

export type ErrorCode = "invalid_payload" | "unknown_action" | "invalid_username" | "username_taken" | "unauthorized" | "room_exists" | "room_not_found" | "forbidden" | "unknown_user" | "limit_reached" | "rate_limited" | "too_large" | "unavailable";

export interface Member {
  username: string;
  online: boolean;
}

export interface RoomInfo {
  room: string;
  kind: Kind;
  /** How far back a new member can read. */
  history: History;
  /** At most 10, in order of name. */
  members: Member[];
  member_count: number;
  /** The other user of a direct room. */
  user?: string;
}

export interface Message {
  /** Chosen by its author, or else by the gateway. */
  id: string;
  room: string;
  from: string;
  content: string;
  /** Unix time in milliseconds. */
  ts: number;
}

export interface StoredMessage {
  /** Chosen by its author, or else by the gateway. */
  id: string;
  room: string;
  from: string;
  content: string;
  /** Unix time in milliseconds. */
  ts: number;
  /** Its place in the order of events; opaque. */
  offset: string;
}

export interface Failure {
  code: ErrorCode;
  /** A sentence for people. */
  message: string;
  /** Which fields are wrong, and why. */
  fields?: Record<string, unknown>;
  /** Seconds. */
  retry_after?: number;
}

export interface CreateRoom {
  room: string;
  users?: string[];
  history?: History;
}

export interface AddUsers {
  room: string;
  users: string[];
}

export interface AddUsersReply {
  added: string[];
  already: string[];
  /** Who left the room not long ago, and was not added again. */
  declined?: string[];
}

export interface OpenDirect {
  user: string;
}

export interface OpenDirectReply {
  room: string;
  kind: Kind;
  /** How far back a new member can read. */
  history: History;
  /** At most 10, in order of name. */
  members: Member[];
  member_count: number;
  /** The other user of a direct room. */
  user?: string;
  /** The other, who left it not long ago, and was not added again. */
  declined?: string[];
}

export interface SendMessage {
  room: string;
  content: string;
  /** Of your choice; the same one again stores nothing. */
  id?: string | null;
}

export interface SendMessageReply {
  id: string;
  /** Unix time in milliseconds. */
  ts: number;
  /** The message was there before. */
  duplicate?: true;
}

export interface LeaveRoom {
  room: string;
}

export type Done = object;

export type ListRooms = Record<string, never>;

export interface ListRoomsReply {
  /** In order of name. */
  rooms: RoomInfo[];
}

export interface ListMembers {
  room: string;
  /** The last name of the page before. */
  after?: string;
  limit?: number;
}

export interface ListMembersReply {
  /** In order of name. */
  members: Member[];
  member_count: number;
  /** Whether another page follows. */
  more: boolean;
}

export interface ReadHistory {
  room: string;
  /** The `offset` or `id` of the oldest message you have. */
  before?: string | null;
  limit?: number;
}

export interface ReadHistoryReply {
  /** Oldest first. */
  messages: StoredMessage[];
  /** Whether there are older ones. */
  more: boolean;
}

export interface FindUsers {
  prefix?: string;
  limit?: number;
}

export interface FindUsersReply {
  /** Names online, sorted. */
  users: string[];
  more: boolean;
}

export interface ShowTyping {
  room: string;
}

export interface Welcome {
  username: string;
  /** Your rooms, in order of name. */
  rooms: RoomInfo[];
  /** Whether every missed event follows. */
  recovered: boolean;
  /** The public id of the session. */
  sid: string;
  /** The secret with which the session is resumed. */
  pid: string;
  /** Seconds. */
  recovery_window: number;
}

export interface RoomJoined {
  room: string;
  kind: Kind;
  /** How far back a new member can read. */
  history: History;
  /** At most 10, in order of name. */
  members: Member[];
  member_count: number;
  /** The other user of a direct room. */
  user?: string;
  by: string;
}

export interface UserJoined {
  room: string;
  username: string;
  by: string;
}

export interface UserLeft {
  room: string;
  username: string;
}

export interface Presence {
  room: string;
  username: string;
  online: boolean;
}

export interface Typing {
  room: string;
  username: string;
}

export interface ActionFailed {
  code: ErrorCode;
  /** A sentence for people. */
  message: string;
  /** Which fields are wrong, and why. */
  fields?: Record<string, unknown>;
  /** Seconds. */
  retry_after?: number;
  action?: string | null;
}

export interface Actions {
  /** Create a room, and add users to it. */
  "create-room": { request: CreateRoom; reply: RoomInfo };
  /** Add users to a room. */
  "add-user": { request: AddUsers; reply: AddUsersReply };
  /** Open the room of the caller and another user. */
  "open-direct": { request: OpenDirect; reply: OpenDirectReply };
  /** Send a message to a room. */
  "send-msg": { request: SendMessage; reply: SendMessageReply };
  /** Leave a room. */
  "leave-room": { request: LeaveRoom; reply: Done };
  /** List the caller's rooms. */
  "list-rooms": { request: ListRooms; reply: ListRoomsReply };
  /** List the members of a room, page by page. */
  "list-members": { request: ListMembers; reply: ListMembersReply };
  /** Read the messages of a room, from the newest back. */
  history: { request: ReadHistory; reply: ReadHistoryReply };
  /** Find users who are online. */
  "find-users": { request: FindUsers; reply: FindUsersReply };
  /** Show the other members of a room that the caller is typing. */
  typing: { request: ShowTyping; reply: Done };
}

export interface Events {
  welcome: Welcome;
  message: Message;
  "room-joined": RoomJoined;
  "user-joined": UserJoined;
  "user-left": UserLeft;
  presence: Presence;
  typing: Typing;
}

/** Errors after which the same request may succeed later. */
export const TEMPORARY: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["rate_limited", "unavailable"]);

export const CLOSE_CODES = {
  /** The client closed, and its session has ended. */
  normal: { code: 1000, comeBack: false },
  /** A frame breaks RFC 6455. */
  protocol_error: { code: 1002, comeBack: false },
  /** A text frame is not UTF-8. */
  not_utf8: { code: 1007, comeBack: false },
  /** The first frame could not log in; the reply before it says why. */
  not_logged_in: { code: 1008, comeBack: false },
  /** A frame is larger than `--max-frame-size`. */
  too_large: { code: 1009, comeBack: false },
  /** The gateway restarts. */
  restart: { code: 1012, comeBack: true },
  /** The session was resumed on another connection. */
  taken_over: { code: 4001, comeBack: false },
  /** Too much was unsent. */
  too_slow: { code: 4008, comeBack: true },
  /** An event could not be delivered. */
  missed: { code: 4008, comeBack: true },
} as const;

/** What the gateway's limits are unless its operator has chosen others. */
export const DEFAULT_LIMITS = {
  /** In characters. */
  max_room_name_length: 64,
  /** In characters. */
  max_content_length: 10000,
  /** In usernames. */
  max_users: 100,
  /** In rooms. */
  max_rooms: 100,
  /** In members. */
  max_members: 10000,
  /** In actions a second. */
  rate_limit: 0.0,
  /** In users a minute. */
  add_limit: 1000.0,
  /** In seconds. */
  decline_window: 3600.0,
  /** In members. */
  presence_limit: 100,
  /** In messages. */
  history_size: 1000,
  /** In bytes. */
  history_bytes: 16777216,
  /** In seconds. */
  recovery_window: 120.0,
  /** In connections. */
  max_connections: 20000,
  /** In bytes. */
  max_frame_size: 131072,
  /** In bytes. */
  max_buffer: 1048576,
  /** In bytes. */
  max_store: 10737418240,
} as const;

export type EventName = keyof Events;
export type ActionName = keyof Actions;
export type Request<A extends ActionName> = Actions[A]["request"];
export type Reply<A extends ActionName> = Actions[A]["reply"];

/** What comes back for a request: an ack on Socket.IO, a frame `reply` on the plain wire. */
export type Outcome<A extends ActionName> = ({ ok: true } & Reply<A>) | { ok: false; error: Failure };
