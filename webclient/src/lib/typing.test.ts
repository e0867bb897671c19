import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { describeTyping, Typing } from "./typing.svelte";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it("is believed for a few seconds after it was last heard", () => {
  const typing = new Typing();
  typing.hear("bob");
  vi.advanceTimersByTime(4_000);
  typing.hear("bob");
  typing.hear("eve");
  vi.advanceTimersByTime(4_000);
  expect(typing.names).toEqual(["bob", "eve"]);
  vi.advanceTimersByTime(2_000);
  expect(typing.names).toEqual([]);
});

it("is over when it stops", () => {
  const typing = new Typing();
  typing.hear("bob");
  typing.stop("bob");
  expect(typing.names).toEqual([]);
});

it.each([
  [[], ""],
  [["bob"], "bob is typing"],
  [["bob", "eve"], "bob and eve are typing"],
  [["bob", "eve", "mallory"], "3 people are typing"],
])("of %j is %j", (names, text) => expect(describeTyping(names)).toBe(text));
