import { describe, expect, it } from "vitest";
import { People } from "./people.svelte";

const online = ["bea", "ben", "bob", "carol"];
const find = (prefix: string): Promise<string[]> => Promise.resolve(online.filter((name) => name.startsWith(prefix)));

describe("People", () => {
  it("suggests people who are online and not chosen yet", async () => {
    const people = new People(find);
    await people.type("be");
    expect(people.suggestions).toEqual(["bea", "ben"]);
    people.choose("ben");
    expect(people.text).toBe("");
    await people.type("be");
    expect(people.suggestions).toEqual(["bea"]);
  });

  it("moves through the suggestions in a circle", async () => {
    const people = new People(find);
    await people.type("b");
    people.move(-1);
    expect(people.active).toBe(2);
    people.move(1);
    expect(people.active).toBe(0);
    people.choose();
    expect(people.chosen).toEqual(["bea"]);
  });

  it("completes the text with the first suggestion", async () => {
    const people = new People(find);
    await people.type("Be");
    people.complete();
    await people.type("b");
    people.move(1);
    people.move(1);
    people.complete();
    await people.type("zoe");
    people.complete();
    expect(people.chosen).toEqual(["bea", "bob", "zoe"]);
  });

  it("takes the text as typed if nobody is suggested", async () => {
    const people = new People(find);
    await people.type("Zoe, yan");
    people.choose();
    await people.type("xi");
    expect(people.all).toEqual(["zoe", "yan", "xi"]);
    people.dropLast();
    people.drop("zoe");
    expect(people.all).toEqual(["xi"]);
  });

  it("says that two letters find more people", async () => {
    const people = new People(find);
    expect(people.help).toContain("two letters");
    await people.type("b ");
    expect(people.help).toContain("two letters");
    await people.type("be");
    expect(people.help).toBe("");
  });

  it("ignores a reply that comes after the text has changed", async () => {
    let reply: (names: string[]) => void = () => {};
    const people = new People((prefix) =>
      prefix === "b" ? new Promise((resolve) => (reply = resolve)) : find(prefix),
    );
    const slow = people.type("b");
    await people.type("c");
    reply(["bob"]);
    await slow;
    expect(people.suggestions).toEqual(["carol"]);
  });
});
