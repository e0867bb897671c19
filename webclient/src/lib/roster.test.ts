import { expect, it } from "vitest";
import { Room } from "./room.svelte";
import { Roster } from "./roster.svelte";
import { roomInfo } from "./samples";

const everyone = ["alice", "bob", "carol", "dan", "eve"];
const names = (roster: Roster): string[] => roster.members.map((member) => member.username);

function setUp(shown: number) {
  const room = new Room(roomInfo("tea", everyone.slice(0, shown), { member_count: everyone.length }), 0);
  const roster = new Roster(room, async (after) => {
    const rest = everyone.filter((name) => name > after).map((username) => ({ username, online: true }));
    return { members: rest.slice(0, 2), member_count: everyone.length, more: rest.length > 2 };
  });
  return { room, roster };
}

it("of a small room is all there, and follows it", async () => {
  const { room, roster } = setUp(5);
  expect(roster.more).toBe(false);
  room.addMember("zoe");
  await roster.loadMore();
  expect(names(roster)).toEqual([...everyone, "zoe"]);
});

it("of a large room is fetched page by page, from the first", async () => {
  const { room, roster } = setUp(1);
  room.addMember("eve"); // who is not the one after alice
  expect(names(roster)).toEqual(["alice", "eve"]);
  expect(roster.more).toBe(true);
  await Promise.all([roster.loadMore(), roster.loadMore()]);
  expect(names(roster)).toEqual(["alice", "bob"]);
  await roster.loadMore();
  await roster.loadMore();
  expect(names(roster)).toEqual(everyone);
  expect(roster.more).toBe(false);
});

it("follows the room as soon as all its members are known", async () => {
  const { room, roster } = setUp(2);
  await roster.loadMore();
  room.setMembers(["alice", "zoe"].map((username) => ({ username, online: false })));
  expect(names(roster)).toEqual(["alice", "zoe"]);
  expect(roster.more).toBe(false);
});
