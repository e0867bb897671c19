import { describe, expect, it } from "vitest";
import { formatTime, newId } from "./format";

const at = (day: number, hour: number): number => new Date(2026, 4, day, hour, 5).getTime();

describe("formatTime", () => {
  it("is the time alone today, with the day otherwise", () => {
    const today = formatTime(at(3, 14), at(3, 20));
    expect(today).toMatch(/05/);
    expect(formatTime(at(3, 14), at(4, 20))).toContain(today);
    expect(formatTime(at(3, 14), at(4, 20)).length).toBeGreaterThan(today.length);
  });
});

describe("newId", () => {
  it("is a new one of 32 characters each time", () => {
    expect(newId()).toMatch(/^[0-9a-f]{32}$/);
    expect(newId()).not.toBe(newId());
  });
});
