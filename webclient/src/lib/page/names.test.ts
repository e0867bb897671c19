import { describe, expect, it } from "vitest";
import { HUES, hueOf, newId, parseNames } from "./names";

describe("parseNames", () => {
  it.each([
    ["", []],
    [" , ;", []],
    ["bob", ["bob"]],
    ["bob, Carol;dan  bob", ["bob", "carol", "dan"]],
  ])("%j is %j", (text, names) => expect(parseNames(text)).toEqual(names));
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
