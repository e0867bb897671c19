/** What day it is: "Today" becomes "Yesterday" in a page that stays open over midnight. */
class Clock {
  #now = $state(Date.now());

  constructor() {
    setInterval(() => this.#look(), 30_000);
  }

  /** A time of the current day, in milliseconds; it changes with the day. */
  get today(): number {
    return this.#now;
  }

  #look(): void {
    if (new Date().toDateString() !== new Date(this.#now).toDateString()) this.#now = Date.now();
  }
}

export const clock = new Clock();
