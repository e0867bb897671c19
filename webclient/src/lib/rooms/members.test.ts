import { describe, expect, it } from "vitest";
import { Members } from "./members.svelte";

const people = (...usernames: string[]) => usernames.map((username) => ({ username, online: true }));

function setUp(count = 3) {
  const members = new Members();
  members.refresh({ members: people("alice", "bob", "carol"), member_count: count });
  return members;
}

describe("Members", () => {
  it("stay ordered by name, each listed once", () => {
    const members = setUp();
    members.add("beth");
    members.add("bob");
    expect(members.usernames).toEqual(["alice", "beth", "bob", "carol"]);
    expect(members.count).toBe(4);
  });

  it("leave, and go offline", () => {
    const members = setUp();
    members.remove("carol");
    members.setPresence("bob", false);
    members.setPresence("nobody", true);
    expect(members.list).toEqual([
      { username: "alice", online: true },
      { username: "bob", online: false },
    ]);
    expect(members.count).toBe(2);
  });

  it("are counted even when the gateway has not named them", () => {
    const members = setUp(5);
    expect(members.isPartial).toBe(true);
    members.add("zoe");
    members.remove("dan"); // whom we did not know of
    expect([members.count, members.isPartial]).toEqual([5, true]);
    members.set(people("alice", "bob", "carol", "eve", "zoe"));
    expect([members.count, members.isPartial]).toEqual([5, false]);
  });

  it("are not miscounted when somebody leaves who was not there", () => {
    const members = setUp();
    members.remove("nobody");
    expect(members.count).toBe(3);
  });
});
