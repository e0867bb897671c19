import { describe, expect, it, vi } from "vitest";
import { ConnectionLost, Refused } from "../connection/errors";
import { Session } from "../connection/session.svelte";
import { Notice } from "../page/notice.svelte";
import { roomInfo } from "../testing/rooms";
import { Directory } from "./directory";
import { Room } from "./room.svelte";

function setUp() {
  const [call, session, notice] = [vi.fn(), new Session(), new Notice()];
  session.join("alice");
  return { call, notice, directory: new Directory({ call }, session, notice) };
}

describe("finding users", () => {
  it("suggests a few people, without us and those who are known", async () => {
    const { call, directory } = setUp();
    const online = ["alice", "bob", ...Array.from({ length: 20 }, (_, index) => `c${index + 10}`)];
    call.mockImplementation(async (_, { limit }: { limit: number }) => ({ users: online.slice(0, limit) }));
    expect(await directory.findUsers("", ["bob"])).toEqual(online.slice(2, 10));
  });

  it("never asks for more than the gateway returns", async () => {
    const { call, directory } = setUp();
    call.mockResolvedValue({ users: [] });
    await directory.findUsers("a", Array.from({ length: 150 }, (_, index) => `m${index}`));
    expect(call).toHaveBeenCalledWith("find-users", { prefix: "a", limit: 100 });
  });

  it("suggests nobody if they cannot be fetched", async () => {
    const { call, notice, directory } = setUp();
    call.mockRejectedValue(new Refused({ code: "forbidden", message: "x" }));
    expect(await directory.findUsers("")).toEqual([]);
    expect(notice.text).toBe("");
  });
});

describe("the members of a room", () => {
  const usernames = Array.from({ length: 12 }, (_, index) => `m${index + 10}`);
  const room = (count: number): Room => new Room(roomInfo("some", usernames.slice(0, 10), { member_count: count }), 0);
  const page = { members: usernames.map((username) => ({ username, online: true })), member_count: 12, more: false };

  it("are fetched if the gateway has named only some of them", async () => {
    const { call, directory } = setUp();
    const some = room(12);
    call.mockResolvedValue(page);
    await directory.completeMembers(some);
    expect(call).toHaveBeenCalledWith("list-members", { room: "some" });
    expect(some.members.usernames).toEqual(usernames);
  });

  it("are not fetched if all are known, or if there are very many", async () => {
    const { call, directory } = setUp();
    for (const count of [10, 101]) await directory.completeMembers(room(count));
    expect(call).not.toHaveBeenCalled();
  });

  it("stay as they are if they cannot be fetched, or if more have come in the meantime", async () => {
    const { call, notice, directory } = setUp();
    const some = room(12);
    call.mockRejectedValueOnce(new ConnectionLost()).mockResolvedValueOnce({ ...page, more: true });
    await directory.completeMembers(some);
    await directory.completeMembers(some);
    expect([some.members.list.length, notice.text]).toEqual([10, ""]);
  });

  it("are listed page by page; a failure is shown", async () => {
    const { call, notice, directory } = setUp();
    call.mockResolvedValueOnce(page).mockRejectedValueOnce(new Refused({ code: "unavailable", message: "Not now." }));
    expect(await directory.listMembers(room(12), "m09")).toEqual(page);
    expect(call).toHaveBeenCalledWith("list-members", { room: "some", after: "m09" });
    expect(await directory.listMembers(room(12), "m21")).toBeUndefined();
    expect(notice.text).toBe("Not now.");
  });
});
