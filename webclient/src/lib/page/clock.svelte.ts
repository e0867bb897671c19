/** The current day, so that "Today" becomes "Yesterday" on a page that is open at midnight. */
class Clock {
  #now = $state(Date.now());

  constructor() {
    setInterval(() => this.#update(), 30_000);
  }

  /** A time within the current day, in milliseconds. It changes only when the day does. */
  get today(): number {
    return this.#now;
  }

  #update(): void {
    if (new Date().toDateString() !== new Date(this.#now).toDateString()) this.#now = Date.now();
  }
}

export const clock = new Clock();
