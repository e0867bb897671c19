/** Sample rooms for tests. */

import type { RoomInfo } from "../wire";

/** A room of these people, all online; `more` overrides other fields. */
export const roomInfo = (room: string, names: readonly string[] = [], more: Partial<RoomInfo> = {}): RoomInfo => ({
  room,
  kind: "group",
  history: "all",
  members: names.map((username) => ({ username, online: true })),
  member_count: names.length,
  ...more,
});

/** As `roomInfo`, a direct room of two. */
export const directInfo = (room: string, me: string, user: string): RoomInfo =>
  roomInfo(room, [me, user], { kind: "direct", user });
