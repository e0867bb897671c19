import { expect, it } from "vitest";
import { ConnectionLost, Refused } from "../connection/errors";
import { Notice } from "./notice.svelte";

it("shows why something failed, in the gateway's words, until it is dismissed", async () => {
  const notice = new Notice();
  expect(await notice.attempt(async () => 7)).toBe(7);
  expect(notice.text).toBe("");
  const refusal = new Refused({ code: "unavailable", message: "The store cannot write now." });
  expect(await notice.attempt(() => Promise.reject(refusal))).toBeUndefined();
  expect(notice.text).toBe("The store cannot write now.");
  notice.dismiss();
  expect(notice.text).toBe("");
});

it("does not repeat what the connection status says", async () => {
  const notice = new Notice();
  await notice.attempt(() => Promise.reject(new ConnectionLost()));
  expect(notice.text).toBe("");
});
