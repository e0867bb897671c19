import { describe, expect, it } from "vitest";
import { isUsername, isVisible } from "./protocol";

describe("isUsername", () => {
  it.each(["a", "0", "a".repeat(32)])("takes %j", (name) => expect(isUsername(name)).toBe(true));
  it.each(["", "Alice", "a b", "a".repeat(33), "ä", "a\n"])("refuses %j", (name) =>
    expect(isUsername(name)).toBe(false),
  );
});

describe("isVisible", () => {
  it.each(["a", " . ", "é", "e\u0301", "שלום", "✓", "🪴", "👩\u200d🌾", "\u200bx", "\u202ex"])("takes %j", (text) =>
    expect(isVisible(text)).toBe(true),
  );
  it.each(["", " \t\n", "\u00a0", "\u200b", "\u202e", "\u2028", "\u2800", "\u3164\u115f\uffa0", "\u00ad", "\ufe0f", "\u0301", "\ud800"])(
    "finds nothing in %j",
    (text) => expect(isVisible(text)).toBe(false),
  );
});
