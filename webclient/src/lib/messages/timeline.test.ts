import { describe, expect, it } from "vitest";
import type { Entry } from "./entries";
import { layOut } from "./timeline";

const MINUTE = 60_000;
const noon = new Date(2026, 4, 3, 12).getTime();
const entry = (id: string, from: string, ts: number): Entry => ({ id, from, ts, content: id, status: "sent" });
const groups = (entries: Entry[], newFrom: string | null = null) =>
  layOut(entries, newFrom).map(({ first, last }) => (first ? "[" : "-") + (last ? "]" : "-"));

describe("layOut", () => {
  it("groups the messages that one person writes in a row", () => {
    const entries = [entry("1", "bob", noon), entry("2", "bob", noon + MINUTE), entry("3", "eve", noon + MINUTE)];
    expect(groups(entries)).toEqual(["[-", "-]", "[]"]);
  });

  it("starts a new run after a silence", () => {
    expect(groups([entry("1", "bob", noon), entry("2", "bob", noon + 6 * MINUTE)])).toEqual(["[]", "[]"]);
  });

  it("separates the days", () => {
    const late = new Date(2026, 4, 3, 23, 59).getTime();
    const rows = layOut([entry("1", "bob", noon), entry("2", "bob", late), entry("3", "bob", late + 2 * MINUTE)], null);
    expect(rows.map((row) => row.newDay)).toEqual([true, false, true]);
    expect(rows[2]!.first).toBe(true);
  });

  it("marks the first new message, which starts a new run", () => {
    const entries = [entry("1", "bob", noon), entry("2", "bob", noon + 1)];
    expect(layOut(entries, "bob 2").map((row) => row.newMessages)).toEqual([false, true]);
    expect(groups(entries, "bob 2")).toEqual(["[]", "[]"]);
  });

  it("reuses rows that have not changed", () => {
    const entries = [entry("1", "bob", noon), entry("2", "eve", noon), entry("3", "eve", noon)];
    const before = layOut(entries.slice(0, 2), null);
    const after = layOut(entries, null, before);
    expect(after[0]).toBe(before[0]);
    expect(after[1]).not.toBe(before[1]);
    expect(before[1]!.last).toBe(true);
    expect(after).toEqual(layOut(entries, null));
  });

  it("tells messages of two authors with the same id apart", () => {
    expect(layOut([entry("1", "bob", noon), entry("1", "eve", noon)], "eve 1").map((row) => row.newMessages)).toEqual([
      false,
      true,
    ]);
  });
});
