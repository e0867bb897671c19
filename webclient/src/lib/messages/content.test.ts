import { describe, expect, it } from "vitest";
import { excessOf, isVisible, MAX_LENGTH } from "./content";

describe("isVisible", () => {
  it.each(["a", " . ", "é", "e\u0301", "שלום", "✓", "🪴", "👩\u200d🌾", "\u200bx", "\u202ex"])("accepts %j", (text) =>
    expect(isVisible(text)).toBe(true),
  );
  it.each(["", " \t\n", "\u00a0", "\u200b", "\u202e", "\u2028", "\u2800", "\u3164\u115f\uffa0", "\u00ad", "\ufe0f", "\u0301", "\ud800"])(
    "finds nothing in %j",
    (text) => expect(isVisible(text)).toBe(false),
  );
});

describe("excessOf", () => {
  it.each([
    ["", 0],
    ["x".repeat(MAX_LENGTH), 0],
    ["x".repeat(MAX_LENGTH + 3), 3],
    ["🪴".repeat(MAX_LENGTH), 0],
    ["🪴".repeat(MAX_LENGTH + 1), 1],
  ])("counts code points", (text, excess) => expect(excessOf(text)).toBe(excess));
});
