/** Links in messages. Only http, https and mailto become links: nothing that could run code or open another application. */

export interface Piece {
  text: string;
  /** The target of a link; undefined for plain text. */
  href?: string;
}

const CANDIDATE = /\b(?:https?:\/\/|mailto:)[^\s<>"]+/giu;
const PROTOCOLS = new Set(["http:", "https:", "mailto:"]);
const PUNCTUATION = /[.,;:!?'’”»…*_~|\]})،؛؟。、！？）」』】]$/u;
const PAIRS: Record<string, string> = { ")": "(", "]": "[", "}": "{" };

/** Split a text into plain pieces and links. Joined together, they are the text again. */
export function findLinks(text: string): Piece[] {
  const pieces: Piece[] = [];
  let end = 0;
  for (const match of text.matchAll(CANDIDATE)) {
    const link = withoutPunctuation(match[0]);
    const href = hrefOf(link);
    if (href === undefined) continue;
    if (match.index > end) pieces.push({ text: text.slice(end, match.index) });
    pieces.push({ text: link, href });
    end = match.index + link.length;
  }
  if (end < text.length) pieces.push({ text: text.slice(end) });
  return pieces;
}

/** In "(see https://a.example/b)." the link ends before the bracket, which stays if the link itself opens it. */
function withoutPunctuation(link: string): string {
  for (;;) {
    const last = link.at(-1) ?? "";
    const opening = PAIRS[last];
    const isBalanced = opening !== undefined && count(link, opening) >= count(link, last);
    if (isBalanced || !PUNCTUATION.test(link)) return link;
    link = link.slice(0, -last.length);
  }
}

const count = (text: string, character: string): number => text.split(character).length - 1;

function hrefOf(link: string): string | undefined {
  if (!URL.canParse(link)) return undefined;
  const { protocol, href, pathname } = new URL(link);
  if (!PROTOCOLS.has(protocol) || (protocol === "mailto:" && !pathname.includes("@"))) return undefined;
  return href;
}
