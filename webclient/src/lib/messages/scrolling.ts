import type { Messages, Place } from "./messages.svelte";

/** Pixels from the end, or the start, within which the reader counts as being there. */
const AT_END = 40;
const NEAR_START = 400;

/**
 * The reading position in one room. A reader at the end stays there, whatever arrives. For any other reader the message
 * they are looking at stays in its place, whatever is inserted or removed above it. Messages are elements with `data-key`.
 */
export class Scrolling {
  #messages: Messages;
  #log: HTMLElement;
  #frame = 0;
  /** `scrollTop` at the last `update`. */
  #top = 0;
  /** The key of the first message at the last `settle`. */
  #first: string | undefined;

  constructor(messages: Messages, log: HTMLElement) {
    this.#messages = messages;
    this.#log = log;
  }

  /** Whether the reader will soon reach the oldest message. */
  get nearStart(): boolean {
    return this.#log.scrollTop < NEAR_START;
  }

  /** Start where the reader was when they left the room, else at the first new message, else at the end. */
  begin(): void {
    this.toEnd();
    const { place, newFrom } = this.#messages;
    if (place) this.#show(place);
    else if (newFrom !== null) this.#show({ key: newFrom, above: -16 });
    this.update();
  }

  /** The reader has scrolled. If older messages came in before this, the reading position has to be restored first. */
  update(): void {
    if (this.#first !== this.#elements[0]?.dataset.key) this.settle();
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    if (scrollHeight - scrollTop - clientHeight < AT_END) this.#messages.atEnd = true;
    // Only if the reader has scrolled up: an end that has merely moved away is followed.
    else if (scrollTop < this.#top) this.#messages.atEnd = false;
    this.#top = scrollTop;
    this.#messages.place = this.#messages.atEnd ? undefined : this.#place();
  }

  /** The messages have changed. However many changes there are, `settle` runs once, before the next paint. */
  settleSoon(): void {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.settle();
    });
  }

  /** The messages have changed, or the size of the window has: restore the reading position. */
  settle(): void {
    this.#first = this.#elements[0]?.dataset.key;
    if (this.#messages.atEnd) this.toEnd();
    else if (this.#messages.place) this.#show(this.#messages.place);
  }

  toEnd(): void {
    this.#log.scrollTop = this.#log.scrollHeight;
    this.#top = this.#log.scrollTop;
  }

  /** The first visible message, by binary search: this runs while the reader scrolls. */
  #place(): Place | undefined {
    const elements = this.#elements;
    let low = 0;
    let high = elements.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#distance(elements[middle]!) + elements[middle]!.offsetHeight > 0) high = middle;
      else low = middle + 1;
    }
    const element = elements[low];
    return element && { key: element.dataset.key ?? "", above: -this.#distance(element) };
  }

  #show({ key, above }: Place): void {
    const element = this.#log.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (element) this.#log.scrollTop += this.#distance(element) + above;
  }

  get #elements(): NodeListOf<HTMLElement> {
    return this.#log.querySelectorAll("[data-key]");
  }

  /** Pixels from the top of the visible part of the log. */
  #distance(element: Element): number {
    return element.getBoundingClientRect().top - this.#log.getBoundingClientRect().top;
  }
}
