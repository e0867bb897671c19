import { describe, expect, it } from "vitest";
import { HUES, hueOf, nameForTwo, newId, parseNames } from "./names";
import { isUsername } from "./protocol";

describe("parseNames", () => {
  it.each([
    ["", []],
    [" , ;", []],
    ["bob", ["bob"]],
    ["bob, Carol;dan  bob", ["bob", "carol", "dan"]],
  ])("%j is %j", (text, names) => expect(parseNames(text)).toEqual(names));
});

describe("isUsername", () => {
  it.each(["a", "0", "a".repeat(32)])("takes %j", (name) => expect(isUsername(name)).toBe(true));
  it.each(["", "Alice", "a b", "a".repeat(33), "ä", "a\n"])("refuses %j", (name) =>
    expect(isUsername(name)).toBe(false),
  );
});

describe("nameForTwo", () => {
  it("is the same for both", () => {
    expect(nameForTwo("bob", "alice")).toBe("alice & bob");
    expect(nameForTwo("alice", "bob")).toBe("alice & bob");
  });
});

describe("hueOf", () => {
  it("is one of the colours, and the same each time", () => {
    for (const name of ["", "bob", "غرفة", "🪴".repeat(64)]) {
      expect(hueOf(name)).toBe(hueOf(name));
      expect(hueOf(name)).toBeGreaterThanOrEqual(0);
      expect(hueOf(name)).toBeLessThan(HUES);
    }
  });
});

describe("newId", () => {
  it("is a new one of 32 characters each time", () => {
    expect(newId()).toMatch(/^[0-9a-f]{32}$/);
    expect(newId()).not.toBe(newId());
  });
});
