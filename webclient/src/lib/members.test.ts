import { describe, expect, it } from "vitest";
import { countMembers, describeMembers, summary, withMember, withoutMember, withPresence } from "./members";

const members = ["alice", "bob", "carol"].map((username) => ({ username, online: true }));

describe("members", () => {
  it("stay in order of name, each once", () => {
    const names = withMember(withMember(members, "beth"), "bob").map((member) => member.username);
    expect(names).toEqual(["alice", "beth", "bob", "carol"]);
  });

  it("leave, and come and go", () => {
    expect(withoutMember(members, "bob")).toHaveLength(2);
    expect(withPresence(members, "bob", false)[1]).toEqual({ username: "bob", online: false });
    expect(withPresence(members, "nobody", true)).toEqual(members);
  });
});

describe("summary", () => {
  it("names the others, then you", () => {
    expect(summary(members, 3, "alice")).toBe("bob, carol, you");
  });

  it("counts whom it does not name, and whom the gateway did not name", () => {
    expect(summary(members, 3, "alice", 1)).toBe("bob, 1 more, you");
    expect(summary(members, 250, "alice")).toBe("bob, carol, 247 more, you");
  });

  it("says so when you are alone", () => {
    expect(summary([{ username: "alice", online: true }], 1, "alice")).toBe("Only you");
  });
});

describe("countMembers", () => {
  it("says how many are online, where the gateway says it", () => {
    expect(countMembers(withPresence(members, "bob", false), 3)).toBe("3 members, 2 online");
    expect(countMembers(members.slice(0, 1), 1)).toBe("1 member, 1 online");
    expect(countMembers(members, 250)).toBe("250 members");
  });
});

describe("describeMembers", () => {
  it("names them, and says how many are online where that says something", () => {
    expect(describeMembers(members, 3, "alice")).toBe("bob, carol, you · 3 online");
    expect(describeMembers(members.slice(0, 1), 1, "alice")).toBe("Only you");
    expect(describeMembers(members, 250, "alice")).toBe("bob, carol, 247 more, you");
  });
});
