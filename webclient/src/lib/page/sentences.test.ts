import { describe, expect, it } from "vitest";
import { countMembers, describeDeclined, describeMembers, describePartner, describeTyping, describeUnsent, listNames } from "./sentences";

const members = ["alice", "bob", "carol"].map((username) => ({ username, online: true }));

it.each([
  [0, ""],
  [1, "A message was not sent."],
  [2, "2 messages were not sent."],
])("describeUnsent(%j) is %j", (count, text) => expect(describeUnsent(count)).toBe(text));

it.each([
  [[], ""],
  [["bob"], "bob is typing"],
  [["bob", "eve"], "bob and eve are typing"],
  [["bob", "eve", "mallory"], "3 people are typing"],
])("describeTyping(%j) is %j", (names, text) => expect(describeTyping(names)).toBe(text));

it.each([
  [true, "online"],
  [false, "offline"],
  [undefined, "bob has left"],
])("describePartner says %j as %j", (online, text) => expect(describePartner("bob", online)).toBe(text));

it("describeDeclined names the people who were not added, and says why", () => {
  expect(describeDeclined(["bob"])).toMatch(/^bob was not added: .* for an hour\.$/);
  expect(describeDeclined(["bob", "carol", "dan"])).toMatch(/^bob, carol and dan were not added/);
});

describe("listNames", () => {
  it("lists the others, then you", () => {
    expect(listNames(members, 3, "alice")).toBe("bob, carol, you");
  });

  it("counts members that it does not list, and those that the gateway did not name", () => {
    expect(listNames(members, 3, "alice", 1)).toBe("bob, 1 more, you");
    expect(listNames(members, 250, "alice")).toBe("bob, carol, 247 more, you");
  });

  it("says so when you are alone", () => {
    expect(listNames([{ username: "alice", online: true }], 1, "alice")).toBe("Only you");
  });
});

it("countMembers says how many are online, if the gateway says so", () => {
  const [alice] = members;
  expect(countMembers([alice!, { username: "bob", online: false }], 2)).toBe("2 members, 1 online");
  expect(countMembers([alice!], 1)).toBe("1 member, 1 online");
  expect(countMembers(members, 250)).toBe("250 members");
});

it("describeMembers lists them, and says how many are online where that is worth saying", () => {
  expect(describeMembers(members, 3, "alice")).toBe("bob, carol, you · 3 online");
  expect(describeMembers(members.slice(0, 1), 1, "alice")).toBe("Only you");
  expect(describeMembers(members, 250, "alice")).toBe("bob, carol, 247 more, you");
});
