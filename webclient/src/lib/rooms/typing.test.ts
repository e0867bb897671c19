import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Typing } from "./typing.svelte";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it("lasts for a few seconds after the last event", () => {
  const typing = new Typing();
  typing.start("bob");
  vi.advanceTimersByTime(4_000);
  typing.start("bob");
  typing.start("eve");
  vi.advanceTimersByTime(4_000);
  expect(typing.names).toEqual(["bob", "eve"]);
  vi.advanceTimersByTime(2_000);
  expect(typing.names).toEqual([]);
});

it("is over when it is stopped", () => {
  const typing = new Typing();
  typing.start("bob");
  typing.stop("bob");
  expect(typing.names).toEqual([]);
});
