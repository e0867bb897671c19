import { expect, it } from "vitest";
import { Room } from "./room.svelte";
import { Roster } from "./roster.svelte";

const everyone = ["alice", "bob", "carol", "dan", "eve"].map((username) => ({ username, online: true }));
const names = (roster: Roster): string[] => roster.members.map((member) => member.username);

function setUp(shown: number) {
  const room = new Room({ room: "tea", members: everyone.slice(0, shown), member_count: everyone.length }, 0);
  const roster = new Roster(room, async (after) => {
    const behind = everyone.filter((member) => member.username > after);
    return { members: behind.slice(0, 2), member_count: everyone.length, more: behind.length > 2 };
  });
  return { room, roster };
}

it("of a small room is all there, and follows it", () => {
  const { room, roster } = setUp(5);
  expect(roster.more).toBe(false);
  room.addMember("zoe");
  expect(names(roster)).toContain("zoe");
});

it("of a large room is fetched page by page", async () => {
  const { roster } = setUp(2);
  expect(names(roster)).toEqual(["alice", "bob"]);
  expect(roster.more).toBe(true);
  await Promise.all([roster.loadMore(), roster.loadMore()]);
  expect(names(roster)).toEqual(["alice", "bob", "carol", "dan"]);
  await roster.loadMore();
  expect(names(roster)).toEqual(["alice", "bob", "carol", "dan", "eve"]);
  expect(roster.more).toBe(false);
});
