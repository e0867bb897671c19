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

  /** The reader has scrolled. */
  look(): void {
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    this.#room.atEnd = scrollHeight - scrollTop - clientHeight < AT_END;
    this.#room.place = this.#room.atEnd ? undefined : this.#place();
  }

  /** The messages have changed, or the window has. */
  settle(): void {
    if (this.#room.atEnd) this.toEnd();
    else if (this.#room.place) this.#show(this.#room.place);
  }

  toEnd(): void {
    this.#log.scrollTop = this.#log.scrollHeight;
  }

  /** The first message that is in sight, found by halving: this runs while the reader scrolls. */
  #place(): Place | undefined {
    const messages = this.#log.querySelectorAll<HTMLElement>("[data-key]");
    let low = 0;
    let high = messages.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#top(messages[middle]!) + messages[middle]!.offsetHeight > 0) high = middle;
      else low = middle + 1;
    }
    const message = messages[low];
    return message && { key: message.dataset.key ?? "", above: -this.#top(message) };
  }

  #show({ key, above }: Place): void {
    const message = this.#log.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (message) this.#log.scrollTop += this.#top(message) + above;
  }

  /** Pixels from the top of what is in sight. */
  #top(message: Element): number {
    return message.getBoundingClientRect().top - this.#log.getBoundingClientRect().top;
  }
}
