import type { Place, Room } from "./room.svelte";

/** Pixels from an edge at which the reader counts as being there. */
const AT_END = 40;
const NEAR_START = 400;

/**
 * Where the reader of one room is. Whoever is at the end stays there, whatever arrives; whoever is not keeps the
 * message they look at in its place, whatever is put in above it or taken away. Messages are elements with `data-key`.
 */
export class Scrolling {
  #room: Room;
  #log: HTMLElement;
  #frame = 0;
  /** Pixels above what is in sight, when we last looked. */
  #top = 0;
  /** The first message when `settle` last looked. */
  #first: string | undefined;

  constructor(room: Room, log: HTMLElement) {
    this.#room = room;
    this.#log = log;
  }

  /** Whether older messages will soon be looked for. */
  get nearStart(): boolean {
    return this.#log.scrollTop < NEAR_START;
  }

  /** Where the reader was when the room was left, else at the first new message, else at the end. */
  begin(): void {
    this.toEnd();
    const { place, newFrom } = this.#room;
    if (place) this.#show(place);
    else if (newFrom !== null) this.#show({ key: newFrom, above: -16 });
    this.look();
  }

  /** The reader has scrolled. Where older messages came in since, what they look at has to be put back first. */
  look(): void {
    if (this.#first !== this.#messages[0]?.dataset.key) this.settle();
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    if (scrollHeight - scrollTop - clientHeight < AT_END) this.#room.atEnd = true;
    // Not where the end has merely moved away from the reader, who will be taken there.
    else if (scrollTop < this.#top) this.#room.atEnd = false;
    this.#top = scrollTop;
    this.#room.place = this.#room.atEnd ? undefined : this.#place();
  }

  /** The messages have changed: before they are painted, all that came at once is laid out once. */
  settleSoon(): void {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.settle();
    });
  }

  /** The messages have changed, or the window has. */
  settle(): void {
    this.#first = this.#messages[0]?.dataset.key;
    if (this.#room.atEnd) this.toEnd();
    else if (this.#room.place) this.#show(this.#room.place);
  }

  toEnd(): void {
    this.#log.scrollTop = this.#log.scrollHeight;
    this.#top = this.#log.scrollTop;
  }

  /** The first message that is in sight, found by halving: this runs while the reader scrolls. */
  #place(): Place | undefined {
    const messages = this.#messages;
    let low = 0;
    let high = messages.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#distance(messages[middle]!) + messages[middle]!.offsetHeight > 0) high = middle;
      else low = middle + 1;
    }
    const message = messages[low];
    return message && { key: message.dataset.key ?? "", above: -this.#distance(message) };
  }

  #show({ key, above }: Place): void {
    const message = this.#log.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (message) this.#log.scrollTop += this.#distance(message) + above;
  }

  get #messages(): NodeListOf<HTMLElement> {
    return this.#log.querySelectorAll("[data-key]");
  }

  /** Pixels from the top of what is in sight. */
  #distance(message: Element): number {
    return message.getBoundingClientRect().top - this.#log.getBoundingClientRect().top;
  }
}
