import { ConnectionLost } from "../connection/errors";

/** A message about something that went wrong outside a form. */
export class Notice {
  #text = $state("");

  /** Empty when there is nothing to show. */
  get text(): string {
    return this.#text;
  }

  show(text: string): void {
    this.#text = text.trim();
  }

  dismiss(): void {
    this.#text = "";
  }

  /** Run it, and show why it failed. A lost connection already shows elsewhere. */
  async attempt<T>(run: () => Promise<T>): Promise<T | undefined> {
    try {
      return await run();
    } catch (error) {
      if (!(error instanceof ConnectionLost)) this.show((error as Error).message);
      return undefined;
    }
  }
}
