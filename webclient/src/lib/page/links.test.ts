import { describe, expect, it } from "vitest";
import { findLinks } from "./links";

const links = (text: string): (string | undefined)[] =>
  findLinks(text).flatMap(({ text, href }) => (href ? [text] : []));

describe("findLinks", () => {
  it("splits a text so that it is whole again", () => {
    const text = "See https://a.example/b?c=d#e, then\nmailto:bob@a.example!";
    expect(findLinks(text)).toEqual([
      { text: "See " },
      { text: "https://a.example/b?c=d#e", href: "https://a.example/b?c=d#e" },
      { text: ", then\n" },
      { text: "mailto:bob@a.example", href: "mailto:bob@a.example" },
      { text: "!" },
    ]);
  });

  it.each([
    ["(https://a.example/b).", "https://a.example/b"],
    ["https://a.example/b_(c)", "https://a.example/b_(c)"],
    ["(see https://a.example/b_(c))", "https://a.example/b_(c)"],
    ["“https://a.example”…", "https://a.example"],
    ["https://a.example/?", "https://a.example/"],
    ["https://a.example/ü،", "https://a.example/ü"],
    ["<https://a.example/b>", "https://a.example/b"],
    ["HTTP://A.EXAMPLE", "HTTP://A.EXAMPLE"],
  ])("leaves out of %j what belongs to the sentence", (text, link) => expect(links(text)).toEqual([link]));

  it.each([
    "javascript:alert(1)",
    "javascript://a.example/%0aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "file:///etc/passwd",
    "ftp://a.example",
    "xhttps://a.example",
    "https://",
    "https://:80",
    "mailto:",
    "mailto:bob",
    "a.example",
    "",
  ])("finds none in %j", (text) => {
    expect(links(text)).toEqual([]);
    expect(
      findLinks(text)
        .map((piece) => piece.text)
        .join(""),
    ).toBe(text);
  });
});
