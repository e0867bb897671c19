import { describe, expect, it } from "vitest";
import { describeDeclined, describeRefusal } from "./sentences";

describe("describeRefusal", () => {
  const taken = (retry_after?: number): string =>
    describeRefusal("bob", { code: "username_taken", message: "x", ...(retry_after === undefined ? {} : { retry_after }) });

  it("tells a name in use from one that is reserved, and for how long that is", () => {
    expect(taken()).toBe("“bob” is taken: somebody is logged in with that name.");
    expect(taken(87.2)).toContain("reserved for another 88 seconds");
    expect(taken(0.2)).toContain("reserved for another second,");
    expect(taken(3600)).toContain("reserved for another 60 minutes");
  });

  it("leaves to the gateway what it says best", () => {
    expect(describeRefusal("bob", { code: "unauthorized", message: "Not from there." })).toBe("Not from there.");
  });
});

describe("describeDeclined", () => {
  it("names who was not added, and why", () => {
    expect(describeDeclined()).toBe("");
    expect(describeDeclined([])).toBe("");
    expect(describeDeclined(["bob"])).toMatch(/^bob was not added: .* an hour\.$/);
    expect(describeDeclined(["bob", "carol", "dan"])).toMatch(/^bob, carol and dan were not added/);
  });
});
