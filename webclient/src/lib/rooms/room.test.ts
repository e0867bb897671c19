import { describe, expect, it } from "vitest";
import type { Entry } from "../messages/entries";
import { message } from "../testing/chat";
import { directInfo, roomInfo } from "../testing/rooms";
import { Room } from "./room.svelte";

const tea = (): Room => new Room(roomInfo("tea", ["alice", "bob"]), 0);
const pending: Entry = { id: "p", from: "alice", content: "p", ts: 9_999, status: "pending" };

describe("a room", () => {
  it("shows who added us until it is opened, or until we write", () => {
    for (const act of [(room: Room) => room.markSeen(), (room: Room) => room.addPending(pending)]) {
      const room = tea();
      room.setAddedBy("bob");
      expect(room.addedBy).toBe("bob");
      act(room);
      expect(room.addedBy).toBeUndefined();
    }
  });

  it("shows a user as typing until the message arrives, or the user is gone", () => {
    for (const act of [
      (room: Room) => room.receive(message("1"), true),
      (room: Room) => room.removeMember("bob"),
      (room: Room) => room.setPresence("bob", false),
    ]) {
      const room = tea();
      room.typing.start("bob");
      act(room);
      expect(room.typing.names).toEqual([]);
    }
  });

  it("saves and restores the draft and the unsent messages, as JSON", () => {
    const before = tea();
    before.draft = "half a";
    before.addPending(pending);
    before.messages.setFailed(pending, "no");
    const after = tea();
    after.restore(JSON.parse(JSON.stringify(before.saved)));
    expect(after.draft).toBe("half a");
    expect(after.messages.unsent).toEqual([{ ...pending, status: "failed", problem: "no" }]);
  });
});

describe("a direct room", () => {
  it("has the partner's name as its title, and shows whether the partner is online", () => {
    const direct = new Room(directInfo("@x1", "alice", "bob"), 0);
    expect([direct.title, direct.partner, direct.partnerOnline]).toEqual(["bob", "bob", true]);
    direct.setPresence("bob", false);
    expect(direct.partnerOnline).toBe(false);
    direct.removeMember("bob");
    expect([direct.title, direct.partnerOnline]).toEqual(["bob", undefined]);
  });

  it.each(["alice & bob", "bob", "@x1"])("is not any room that is called %j", (name) => {
    const room = new Room({ ...roomInfo(name, ["alice", "bob"]), user: "bob" }, 0);
    expect([room.title, room.partner]).toEqual([name, undefined]);
  });
});
