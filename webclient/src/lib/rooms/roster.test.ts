import { expect, it } from "vitest";
import { roomInfo } from "../testing/rooms";
import { Members } from "./members.svelte";
import { Roster } from "./roster.svelte";

const everyone = ["alice", "bob", "carol", "dan", "eve"];
const names = (roster: Roster): string[] => roster.members.map((member) => member.username);

function setUp(shown: number) {
  const members = new Members();
  members.refresh(roomInfo("tea", everyone.slice(0, shown), { member_count: everyone.length }));
  const roster = new Roster(members, async (after) => {
    const rest = everyone.filter((name) => name > after).map((username) => ({ username, online: true }));
    return { members: rest.slice(0, 2), member_count: everyone.length, more: rest.length > 2 };
  });
  return { members, roster };
}

it("of a small room is complete, and follows the room", async () => {
  const { members, roster } = setUp(5);
  expect(roster.more).toBe(false);
  members.add("zoe");
  await roster.loadMore();
  expect(names(roster)).toEqual([...everyone, "zoe"]);
});

it("of a large room is fetched page by page, from the first page", async () => {
  const { members, roster } = setUp(1);
  members.add("eve"); // who does not come next after alice
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
  const { members, roster } = setUp(2);
  await roster.loadMore();
  members.set(["alice", "zoe"].map((username) => ({ username, online: false })));
  expect(names(roster)).toEqual(["alice", "zoe"]);
  expect(roster.more).toBe(false);
});
