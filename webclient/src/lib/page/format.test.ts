import { describe, expect, it } from "vitest";
import { formatBriefly, formatDay, formatTime } from "./format";

const at = (year: number, month: number, day: number, hour = 14): number =>
  new Date(year, month - 1, day, hour, 5).getTime();
const now = at(2026, 5, 6);

/** In whatever language the tests run. */
const word = (days: number): string => new Intl.RelativeTimeFormat(undefined, { numeric: "auto" }).format(days, "day");
const part = (ts: number, options: Intl.DateTimeFormatOptions): string =>
  new Intl.DateTimeFormat(undefined, options).format(ts);

describe("formatDay", () => {
  it("has words for today and yesterday", () => {
    expect(formatDay(at(2026, 5, 6, 0), now)).toMatch(new RegExp(`^${word(0)}$`, "i"));
    expect(formatDay(at(2026, 5, 5, 23), now)).toMatch(new RegExp(`^${word(-1)}$`, "i"));
  });

  it("names other days, with the year where it is another one", () => {
    expect(formatDay(at(2026, 5, 3), now)).toContain(part(at(2026, 5, 3), { weekday: "long" }));
    expect(formatDay(at(2026, 5, 3), now)).not.toContain("2026");
    expect(formatDay(at(2025, 12, 31), now)).toContain("2025");
  });
});

describe("formatBriefly", () => {
  it.each([
    ["today", at(2026, 5, 6, 9), formatTime(at(2026, 5, 6, 9))],
    ["by a clock that goes ahead", at(2026, 5, 7, 9), formatTime(at(2026, 5, 7, 9))],
    ["yesterday", at(2026, 5, 5), formatDay(at(2026, 5, 5), now)],
    ["this week", at(2026, 5, 3), part(at(2026, 5, 3), { weekday: "short" })],
  ])("%s", (_, ts, text) => expect(formatBriefly(ts, now)).toBe(text));

  it("is a date where it is long ago", () => {
    expect(formatBriefly(at(2026, 4, 3), now)).toContain(part(at(2026, 4, 3), { day: "numeric", month: "short" }));
    expect(formatBriefly(at(2025, 4, 3), now)).toContain("2025");
  });
});
