import { describe, expect, it } from "vitest";
import { parseNames } from "./names";
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
