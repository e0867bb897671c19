/** Where the keyboard goes. */

/** On a touch screen a focused text box would bring up the keyboard over the page. */
export const hasKeyboard = (): boolean => matchMedia("(hover: hover)").matches;

/** To a room in the list, or to the button for a new one. */
export function focusList(room?: string): void {
  const item = room === undefined ? null : document.querySelector<HTMLElement>(`[data-room="${CSS.escape(room)}"]`);
  (item ?? document.querySelector<HTMLElement>("[data-new-room]"))?.focus();
}

/** To the box of the open room. */
export function focusBox(): void {
  if (hasKeyboard()) document.querySelector<HTMLElement>("[data-message-box]")?.focus();
}
